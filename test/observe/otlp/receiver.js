// receiver.js DECODERS DIR [CERTIFICATE KEY] -- a collector that believes nothing.
//
// Each request is decoded by OpenTelemetry's generated code, encoded again, and has to give the
// same bytes.  It is kept as DIR/N.pb, what it says as DIR/N.json.  Prints its port.
'use strict';
const fs = require('fs'), http = require('http'), https = require('https'), path = require('path'), zlib = require('zlib');
const modules = path.join(process.argv[2], 'node_modules');
const [directory, certificate, key] = process.argv.slice(3);

// The decoder's runtime comes as one file, and finds 64-bit numbers here.
globalThis.Long = require(path.join(modules, 'long'));
const Module = require('module'), resolve = Module._resolveFilename;
Module._resolveFilename = function (request, ...rest) {
    return request === 'protobufjs/minimal' ? path.join(modules, 'protobufjs/dist/minimal/protobuf.js')
                                            : resolve.call(this, request, ...rest);
};
const { collector } = require(path.join(
    modules, '@opentelemetry/otlp-transformer/build/src/generated/root.js')).opentelemetry.proto;
const requests = {
    '/v1/traces': collector.trace.v1.ExportTraceServiceRequest,
    '/v1/logs': collector.logs.v1.ExportLogsServiceRequest,
    '/v1/metrics': collector.metrics.v1.ExportMetricsServiceRequest,
};
let count = 0;

function judge(request, body) {
    const type = requests[request.url];
    if (!type || request.method !== 'POST')
        throw Error(`${request.method} ${request.url}`);
    if (request.headers['content-type'] !== 'application/x-protobuf')
        throw Error('content type');
    const gzip = request.headers['content-encoding'] === 'gzip';
    if (gzip)
        body = zlib.gunzipSync(body);
    const message = type.decode(body), wrong = type.verify(message);
    if (wrong)
        throw Error(wrong);
    return {
        body,
        signal: request.url.slice(4),
        gzip,
        same: Buffer.from(type.encode(message).finish()).equals(body),
        request: type.toObject(message, { longs: String, bytes: String, enums: String }),
    };
}

function answer(request, response) {
    const parts = [];
    request.on('data', part => parts.push(part)).on('end', () => {
        const name = path.join(directory, String(++count));
        let said;
        try {
            said = judge(request, Buffer.concat(parts));
        } catch (error) {
            said = { error: String(error), body: Buffer.concat(parts) };
        }
        fs.writeFileSync(name + '.pb', said.body);
        delete said.body;
        said.port = request.socket.remotePort;
        fs.writeFileSync(name + '.json', JSON.stringify(said));
        response.writeHead(said.error ? 400 : 200, { 'Content-Type': 'application/x-protobuf' });
        response.end();
    });
}

const server = certificate
    ? https.createServer({ cert: fs.readFileSync(certificate), key: fs.readFileSync(key) }, answer)
    : http.createServer(answer);
server.listen(0, '127.0.0.1', () => console.log(server.address().port));

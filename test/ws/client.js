// client.js -- an echo server seen by Node's ws: node client.js URL
'use strict';
const assert = require('assert');
const WebSocket = require('ws');

const url = process.argv[2];
const sizes = [0, 1, 63, 64, 125, 126, 127, 4096, 65535, 65536, 300000];
const compressions = [
    false,
    true,
    { serverNoContextTakeover: true, clientNoContextTakeover: true },
    { serverMaxWindowBits: 9, clientMaxWindowBits: 10 },
    { serverMaxWindowBits: 12, clientMaxWindowBits: true, zlibDeflateOptions: { level: 9 } },
    { zlibDeflateOptions: { level: 0 } },
];

function next(socket, event) {
    return new Promise((resolve, reject) => {
        socket.once(event, (...args) => resolve(args));
        if (event !== 'error')
            socket.once('error', reject);
    });
}

function content(size, kind) {
    const data = Buffer.alloc(size);
    let x = size + 1;

    for (let i = 0; i < size; i++) {
        x = (x * 1103515245 + 12345) % 2147483648;
        data[i] = kind === 'random' ? x >> 16 : 97 + (i % 7) * (i % 3);
    }
    return data;
}

async function echoes(perMessageDeflate) {
    const socket = new WebSocket(url, { perMessageDeflate });

    await next(socket, 'open');
    assert.equal(socket.extensions !== '', perMessageDeflate !== false);
    for (const size of sizes)
        for (const kind of ['random', 'text']) {
            const data = content(size, kind);

            socket.send(data, { binary: kind === 'random' });
            const [back, binary] = await next(socket, 'message');
            assert(data.equals(back), `${size} bytes of ${kind}`);
            assert.equal(binary, kind === 'random');
        }
    // Fragments, compressed or not, with pings between them.
    const text = '€'.repeat(500);
    socket.send(text, { fin: false });
    socket.ping('between');
    socket.send('', { fin: false });
    socket.send(text, { fin: true });
    const pong = next(socket, 'pong');
    const [joined] = await next(socket, 'message');
    assert.equal(joined.toString(), text + text);
    assert.equal((await pong)[0].toString(), 'between');
    // Many at once come back in order.
    let expected = 0;
    const all = new Promise((resolve) => socket.on('message', (m) => {
        assert.equal(m.toString(), `message ${expected} ${'x'.repeat(expected)}`);
        if (++expected === 500)
            resolve();
    }));
    for (let i = 0; i < 500; i++)
        socket.send(`message ${i} ${'x'.repeat(i)}`);
    await all;
    socket.close(4000, 'enough');
    const [code, reason] = await next(socket, 'close');
    assert.equal(code, 4000);
    assert.equal(reason.toString(), '');
}

async function rules() {
    const socket = new WebSocket(url, ['chat.v1', 'chat.v2']);

    await next(socket, 'open');
    assert.equal(socket.protocol, 'chat.v2');
    socket.send(Buffer.alloc(2 << 20));
    const [code] = await next(socket, 'close');
    assert.equal(code, 1009);

    const page = new WebSocket(url, { origin: 'https://elsewhere.example' });
    const [error] = await next(page, 'error');
    assert.match(error.message, /403/);
}

(async () => {
    for (const c of compressions)
        await echoes(c);
    await rules();
})().catch((e) => {
    console.error(e);
    process.exit(1);
});

// server.js -- an echo server by Node's ws; says its port, ends with its standard input.
'use strict';
const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
    port: 0,
    host: '127.0.0.1',
    perMessageDeflate: { threshold: 0 },
    handleProtocols: (offered) => offered.has('echo') && 'echo',
});

server.on('connection', (socket) => {
    socket.on('message', (data, binary) => {
        if (data.toString() === 'close')
            socket.close(4321, 'as you wish');
        else if (data.toString() === 'drop')
            socket.terminate();
        else
            socket.send(data, { binary });
    });
});
server.on('listening', () => console.log(server.address().port));
process.stdin.on('end', () => process.exit(0)).resume();

// A TCP proxy in front of a server, to break connections without the server's doing.

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

/**
 * Starts a proxy for a port of this machine. `cut()` breaks all connections, `block()` refuses new ones too. A connection
 * is also broken when a request on it matches `refuse`, as by a firewall that knows WebSockets and dislikes them.
 */
export async function startProxy(port, { refuse = /^\b$/ } = {}) {
  const open = new Set();
  let isBlocked = false;
  const server = createServer((client) => {
    if (isBlocked) {
      client.destroy();
      return;
    }
    const upstream = connect(port, '127.0.0.1');
    const pair = [client, upstream];
    open.add(pair);
    const end = () => {
      pair.forEach((socket) => socket.destroy());
      open.delete(pair);
    };
    for (const socket of pair) socket.on('error', end).on('close', end);
    client.on('data', (data) => refuse.test(data.toString('latin1')) && end());
    client.pipe(upstream).pipe(client);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => open.forEach((pair) => pair.forEach((socket) => socket.destroy()));
  return {
    url: `http://127.0.0.1:${server.address().port}`,
    cut,
    block() {
      isBlocked = true;
      cut();
    },
    unblock() {
      isBlocked = false;
    },
    stop() {
      cut();
      server.close();
    },
  };
}

// A TCP proxy before a server, to break connections while the server lives.

import { once } from 'node:events';
import net from 'node:net';

/** Passes connections on to `port` until told to refuse them. */
export async function startProxy(port) {
  const sockets = new Set();
  let refuses = false;
  const drop = () => sockets.forEach((socket) => socket.destroy());
  const listener = net.createServer((client) => {
    if (refuses) return client.destroy();
    const upstream = net.connect(port, '127.0.0.1');
    for (const [socket, peer] of [[client, upstream], [upstream, client]]) {
      sockets.add(socket);
      socket.pipe(peer);
      socket.on('error', () => peer.destroy());
      socket.on('close', () => {
        sockets.delete(socket);
        peer.destroy();
      });
    }
  });
  listener.listen(0, '127.0.0.1');
  await once(listener, 'listening');
  return {
    url: `http://127.0.0.1:${listener.address().port}`,
    /** Breaks all connections and refuses new ones. */
    refuse() {
      refuses = true;
      drop();
    },
    accept() {
      refuses = false;
    },
    async stop() {
      drop();
      listener.close();
      await once(listener, 'close');
    },
  };
}

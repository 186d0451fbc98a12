// A server for a test: the real binary on a free loopback port.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

import { serverBinary } from './tools.js';

const running = new Set();
process.on('exit', () => running.forEach((child) => child.kill('SIGKILL')));

/** Starts a server; `restart()` brings one up on the same port. */
export async function startServer(flags = []) {
  let { child, port } = await launch(0, flags);
  const end = async (signal) => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, 'exit');
    child.kill(signal);
    await exited;
    running.delete(child);
  };
  return {
    port,
    url: `http://127.0.0.1:${port}`,
    /** Posts one comment, or an array of comments, and returns the answer. */
    async post(room, comment) {
      const body = JSON.stringify(typeof comment === 'string' ? { text: comment } : comment);
      const response = await fetch(`${this.url}/v1/rooms/${room}/comments`, { method: 'POST', body });
      if (response.status !== 201) throw new Error(`${response.status}: ${await response.text()}`);
      return response.json();
    },
    stop: () => end('SIGTERM'),
    kill: () => end('SIGKILL'),
    async restart() {
      ({ child } = await launch(port, flags));
    },
  };
}

async function launch(port, flags) {
  const child = spawn(serverBinary, ['--listen', `127.0.0.1:${port}`, '--log', 'warn', ...flags], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  running.add(child);
  for await (const line of createInterface({ input: child.stdout })) {
    const found = /^listening on http:\/\/127\.0\.0\.1:(\d+)/.exec(line);
    if (found) {
      child.stdout.resume();
      return { child, port: Number(found[1]) };
    }
  }
  throw new Error('the server ended before it listened');
}

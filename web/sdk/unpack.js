// The encodings of a WebSocket's batches.

/** The smallest encoding that this runtime can decode. */
export function bestEncoding() {
  try {
    new DecompressionStream('deflate-raw');
    return 'deflate';
  } catch {
    // The first browsers that had it didn't know raw deflate.
    return globalThis.DecompressionStream ? 'gzip' : 'identity';
  }
}

/** Each batch is one gzip member. */
export const gunzip = {
  /** @param {Uint8Array<ArrayBuffer>} bytes */
  unpack: (bytes) => new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream('gzip'))).text(),
  close() {},
};

/** All batches of a connection are one raw-deflate stream; each one's JSON ends in a line feed. */
export function createInflater() {
  const stream = new DecompressionStream('deflate-raw');
  const writer = stream.writable.getWriter();
  const reader = stream.readable.getReader();
  const utf8 = new TextDecoder('utf-8', { fatal: true });
  // Damage shows up in `read()`; the same rejection elsewhere needs no second report.
  const ignore = () => {};
  for (const end of [writer, reader]) end.closed.catch(ignore);
  return {
    /** @param {Uint8Array<ArrayBuffer>} bytes */
    async unpack(bytes) {
      writer.write(bytes).catch(ignore);
      let text = '';
      while (!text.endsWith('\n')) {
        const { value, done } = await reader.read();
        if (done) throw new Error('a batch without an end');
        text += utf8.decode(value, { stream: true });
      }
      return text;
    },
    close() {
      writer.abort().catch(ignore);
      reader.cancel().catch(ignore);
    },
  };
}

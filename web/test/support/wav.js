// A sound file that a <video> can play without a codec, for players that only move while their video does.

/** Silence, as a WAV of 8 kHz and 8 bits. */
export function silence(seconds) {
  const samples = 8000 * seconds;
  const header = Buffer.alloc(44);
  header.write('RIFF', 0);
  header.writeUInt32LE(36 + samples, 4);
  header.write('WAVEfmt ', 8);
  header.writeUInt32LE(16, 16); // of this part of the header
  header.writeUInt16LE(1, 20); // PCM
  header.writeUInt16LE(1, 22); // channel
  header.writeUInt32LE(8000, 24); // samples a second
  header.writeUInt32LE(8000, 28); // bytes a second
  header.writeUInt16LE(1, 32); // byte a sample
  header.writeUInt16LE(8, 34); // bits a sample
  header.write('data', 36);
  header.writeUInt32LE(samples, 40);
  return Buffer.concat([header, Buffer.alloc(samples, 128)]);
}

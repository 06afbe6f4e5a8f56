/**
 * A channel as Web Streams.
 *
 * @module
 */

/** What the streams need of a channel. */
export interface StreamedChannel {
  /** @returns 0 at the end */
  readSome(into: Uint8Array): Promise<number>;
  writeAll(bytes: Uint8Array): Promise<void>;
  closeRead(): void;
  closeWrite(): void;
  abort(): void;
}

const PIECE_BYTES = 64 * 1024;

/** What the peer writes; ends with its `closeWrite`. */
export function readableOf(channel: StreamedChannel): ReadableStream<Uint8Array<ArrayBuffer>> {
  const buffer = new Uint8Array(PIECE_BYTES);
  return new ReadableStream<Uint8Array<ArrayBuffer>>({
    async pull(controller) {
      const count = await channel.readSome(buffer);
      if (count === 0) controller.close();
      else controller.enqueue(buffer.slice(0, count));
    },
    cancel() {
      channel.closeRead();
    },
  }, { highWaterMark: 0 });
}

/** What the peer reads. */
export function writableOf(channel: StreamedChannel): WritableStream<Uint8Array> {
  return new WritableStream<Uint8Array>({
    async write(bytes) {
      await channel.writeAll(bytes);
    },
    close() {
      channel.closeWrite();
    },
    abort() {
      channel.abort();
    },
  });
}

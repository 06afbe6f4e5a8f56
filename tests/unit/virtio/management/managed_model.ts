/**
 * What a managed device answers, for tests of the transport: plain fields, set by the commands as the draft has them.
 *
 * @module
 */
import { bytes, type FakeAnswer, type SeenCommand } from "./fake_management.ts";

/** See the module's text. */
export class ManagedModel {
  features = 1n << 32n | 1n << 29n | 1n << 40n;
  accepted = 0n;
  status = 0;
  generation = 0;
  config = Uint8Array.from({ length: 20 }, (_, at) => at + 1);
  queues = [64, 128, 16].map((max) => ({
    max,
    size: max,
    enabled: false,
    areas: [0n, 0n, 0n],
    state: 0,
    address: 0xe000_1000n,
  }));

  /** For `FakeManagement.answer`. */
  answer = ({ is, data }: SeenCommand): FakeAnswer => {
    const view = new DataView(data.buffer, data.byteOffset, data.length);
    const u16 = (at: number) => view.getUint16(at, true), u64 = (at: number) => view.getBigUint64(at, true);
    const ofQueue = parseInt(is) >= 8;
    const queue = ofQueue ? this.queues[u16(0)] : this.queues[0];
    if (queue === undefined) return { ack: 4 };
    switch (is) {
      case "2.1":
        return {};
      case "3.0":
        return { data: bytes([8, this.features]) };
      case "3.1":
        this.accepted = u64(0);
        return {};
      case "4.0":
        this.status = data[0]!;
        if (this.status === 0) {
          this.queues.forEach((one) => Object.assign(one, { size: one.max, enabled: false }));
        }
        return {};
      case "4.1":
        return { data: bytes([1, this.status]) };
      case "5.0":
        return { data: bytes([1, this.generation]) };
      case "6.0": {
        const offset = view.getUint32(0, true), size = view.getUint32(4, true);
        return offset + size > this.config.length
          ? { ack: 8 }
          : { data: this.config.slice(offset, offset + size) };
      }
      case "6.1":
        this.config.set(data.subarray(8), view.getUint32(0, true));
        return {};
      case "8.0":
        queue.areas = [u64(8), u64(16), u64(24)];
        return {};
      case "9.0":
        queue.enabled = data[2] === 1;
        return {};
      case "9.1":
        return { data: bytes([1, Number(queue.enabled)]) };
      case "10.0":
        queue.size = u16(2);
        return {};
      case "10.1":
        return { data: bytes([2, queue.size]) };
      case "11.1":
        return { data: bytes([8, queue.address + BigInt(2 * u16(0))], [8, 2]) };
      case "12.0":
        queue.state = u16(2);
        return {};
      case "12.1":
        return { data: bytes([2, queue.state]) };
      case "14.1":
        queue.enabled = false;
        return {};
      default:
        return is.startsWith("7.") ? {} : { ack: 255 };
    }
  };
}

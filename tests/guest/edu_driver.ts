/** A driver of QEMU's teaching device (docs/specs/edu.rst) over public doors alone: registers by name, an interrupt, a DMA mask of 28 bits. */
import { DeviceError, TimeoutError } from "@ringside/ringside/errors";
import { Registers, type RegisterTable } from "@ringside/ringside/registers";
import { Bar, ConfigAccess, InterruptSet, type VfioDevice } from "@ringside/ringside/vfio";

const EDU = {
  identification: { offset: 0x00, width: 4, access: "R", fields: { magic: { bits: [7, 0], access: "RO" } } },
  liveness: { offset: 0x04, width: 4 },
  factorial: { offset: 0x08, width: 4 },
  status: {
    offset: 0x20,
    width: 4,
    fields: { computing: { bits: 0, access: "RO" }, interrupt: { bits: 7, access: "RW" } },
  },
  interrupt_status: { offset: 0x24, width: 4, access: "R" },
  interrupt_acknowledge: { offset: 0x64, width: 4, access: "W" },
  dma_source: { offset: 0x80, width: 4 },
  dma_destination: { offset: 0x88, width: 4 },
  dma_count: { offset: 0x90, width: 4 },
  dma_command: {
    offset: 0x98,
    width: 4,
    fields: {
      start: { bits: 0, access: "RW" },
      toMemory: { bits: 1, access: "RW" },
      interrupt: { bits: 2, access: "RW" },
    },
  },
} as const satisfies RegisterTable;
const BUFFER = 0x4_0000, BUFFER_BYTES = 4096, WAIT_MS = 10_000;

export class EduDriver implements Disposable {
  readonly #bar: Bar;
  readonly #registers: Registers<typeof EDU>;
  readonly #interrupts: InterruptSet;
  readonly #memory;

  constructor(device: VfioDevice) {
    new ConfigAccess(device).setCommand({ memory: true, busMaster: true });
    this.#bar = new Bar(device, 0);
    this.#registers = new Registers(EDU, this.#bar);
    const { magic } = this.#registers.fields("identification");
    if (magic !== 0xed) throw new DeviceError(`it is no edu device: ${magic}`, { function: device.name });
    device.dma.setAddressBits(28);
    this.#memory = device.dma.allocate(BUFFER_BYTES, { label: "edu", huge: "never" });
    this.#interrupts = new InterruptSet(device);
    this.#interrupts.enable("msi");
  }

  /** n!, modulo 2^32. */
  async factorial(n: number): Promise<number> {
    this.#registers.update("status", { interrupt: true });
    this.#registers.write("factorial", n);
    await this.#done("factorial", () => this.#registers.fields("status").computing);
    return this.#registers.read("factorial");
  }

  /** Bytes into the device and back. */
  async roundTrip(bytes: Uint8Array): Promise<Uint8Array> {
    const memory = this.#memory.bytes();
    memory.set(bytes);
    await this.#copy(this.#memory.iovaLo, BUFFER, bytes.length, false);
    memory.fill(0);
    await this.#copy(BUFFER, this.#memory.iovaLo, bytes.length, true);
    return memory.slice(0, bytes.length);
  }

  async #copy(from: number, to: number, count: number, toMemory: boolean): Promise<void> {
    this.#registers.write("dma_source", from);
    this.#registers.write("dma_destination", to);
    this.#registers.write("dma_count", count);
    this.#registers.update("dma_command", { start: true, toMemory, interrupt: true });
    await this.#done("DMA", () => this.#registers.fields("dma_command").start);
  }

  async #done(what: string, goesOn: () => boolean): Promise<void> {
    do {
      if (await this.#interrupts.wait(0, WAIT_MS) === 0) throw new TimeoutError(`edu: ${what} did not end`);
      // Reading and acknowledging lowers the line; of MSI it lets the next one through.
      this.#registers.write("interrupt_acknowledge", this.#registers.read("interrupt_status"));
    } while (goesOn());
  }

  [Symbol.dispose](): void {
    this.#interrupts.disable();
    this.#memory.close();
    this.#bar.close();
  }
}

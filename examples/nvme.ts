/**
 * Identifies an NVMe controller and its first namespace, and reads blocks of it: a driver of another device than virtio's, over public doors alone.
 *
 * Run it: `deno run --allow-ffi examples/nvme.ts HOST FUNCTION [polled|msix]`, with HOST `linux`. It reads and never writes.
 *
 * Section numbers are those of the NVM Express Base Specification 2.0.
 *
 * @module
 */
import { DeviceError, type Host, openHost, TimeoutError, UnsupportedError } from "@ringside/ringside";
import { Registers, type RegisterTable, registerTable } from "@ringside/ringside/registers";
import {
  Bar,
  ConfigAccess,
  type DmaMemory,
  type DmaPart,
  dmaReadBarrier,
  dmaWriteBarrier,
  InterruptSet,
  scatterList,
  type VfioDevice,
} from "@ringside/ringside/vfio";

/** Controller properties (§3.1.3). */
const NVME = registerTable({
  CAP: {
    offset: 0x00,
    width: 8,
    access: "R",
    fields: {
      MQES: { bits: [15, 0], access: "RO" },
      TO: { bits: [31, 24], access: "RO" },
      DSTRD: { bits: [35, 32], access: "RO" },
      MPSMIN: { bits: [51, 48], access: "RO" },
    },
  },
  VS: {
    offset: 0x08,
    width: 4,
    access: "R",
    fields: { MJR: { bits: [31, 16], access: "RO" }, MNR: { bits: [15, 8], access: "RO" } },
  },
  CC: {
    offset: 0x14,
    width: 4,
    fields: {
      EN: { bits: 0, access: "RW" },
      MPS: { bits: [10, 7], access: "RW" },
      IOSQES: { bits: [19, 16], access: "RW" },
      IOCQES: { bits: [23, 20], access: "RW" },
    },
  },
  CSTS: {
    offset: 0x1c,
    width: 4,
    access: "R",
    fields: { RDY: { bits: 0, access: "RO" }, CFS: { bits: 1, access: "RO" } },
  },
  AQA: {
    offset: 0x24,
    width: 4,
    fields: { ASQS: { bits: [11, 0], access: "RW" }, ACQS: { bits: [27, 16], access: "RW" } },
  },
  ASQ: { offset: 0x28, width: 8 },
  ACQ: { offset: 0x30, width: 8 },
});

const PAGE = 4096, ENTRIES = 32, WAIT_MS = 10_000, MOST_READ = 128 * 1024;
const OPCODE = { read: 0x02, createSubmission: 0x01, createCompletion: 0x05, identify: 0x06 } as const;

/** A command (§3.3.3.1), as far as it is used here. */
interface Command {
  readonly opcode: number;
  readonly namespace?: number;
  /** Its two data pointers (PRP1, PRP2). */
  readonly data: readonly [bigint, bigint];
  /** Double words from the tenth on. */
  readonly more?: readonly number[];
}

/** Writes a doorbell of a queue pair. */
type Ring = (completion: boolean, value: number) => void;
/** Sleeps until its interrupt comes; absent where it is polled. */
type Sleep = (() => Promise<number>) | undefined;

/** A submission queue and its completion queue: commands one at a time. */
class QueuePair {
  readonly submissions: DmaMemory;
  readonly completions: DmaMemory;
  readonly #commands: Uint32Array;
  readonly #results: Uint32Array;
  readonly #ring: Ring;
  readonly #sleep: Sleep;
  #tail = 0;
  #head = 0;
  #phase = 1;

  constructor(dma: (sizeBytes: number, label: string) => DmaMemory, name: string, ring: Ring, sleep: Sleep) {
    this.submissions = dma(64 * ENTRIES, `${name} submissions`);
    this.completions = dma(16 * ENTRIES, `${name} completions`);
    this.#commands = new Uint32Array(this.submissions.buffer);
    this.#results = new Uint32Array(this.completions.buffer);
    this.#ring = ring;
    this.#sleep = sleep;
  }

  /** @throws DeviceError for a status that is not success; TimeoutError */
  async run({ opcode, namespace = 0, data, more = [] }: Command): Promise<void> {
    const id = this.#tail;
    const halves = data.flatMap((one) => [Number(one & 0xffff_ffffn), Number(one >> 32n)]);
    this.#commands.fill(0, 16 * id, 16 * id + 16);
    this.#commands.set([opcode + id * 0x1_0000, namespace, 0, 0, 0, 0, ...halves, ...more], 16 * id);
    this.#tail = (id + 1) % ENTRIES;
    dmaWriteBarrier();
    this.#ring(false, this.#tail);
    await this.#completed();
    // The phase bit says that the entry is there (§3.3.3.2.1): what else is in it is read behind that.
    dmaReadBarrier();
    const answer = this.#results[4 * this.#head + 3]!;
    this.#head = (this.#head + 1) % ENTRIES;
    if (this.#head === 0) this.#phase = 1 - this.#phase;
    this.#ring(true, this.#head);
    if (answer % 0x1_0000 !== id) {
      throw new DeviceError(`nvme: command ${answer % 0x1_0000} completed, not ${id}`);
    }
    const status = answer >>> 17;
    if (status !== 0) {
      throw new DeviceError(`nvme: opcode 0x${opcode.toString(16)} has status 0x${status.toString(16)}`);
    }
  }

  async #completed(): Promise<void> {
    const end = performance.now() + WAIT_MS;
    const there = () => (Atomics.load(this.#results, 4 * this.#head + 3) >>> 16) % 2 === this.#phase;
    for (let looks = 1; !there(); looks++) {
      if (performance.now() > end) throw new TimeoutError(`nvme: no completion within ${WAIT_MS} ms`);
      if (this.#sleep !== undefined) await this.#sleep();
      else if (looks % 64 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    }
  }
}

/** What it found out. */
export interface NvmeFacts {
  readonly version: string;
  readonly model: string;
  readonly serial: string;
  readonly blocks: number;
  readonly blockBytes: number;
}

/** The driver: one admin queue, and one for reads. */
export class Nvme implements Disposable {
  readonly #stack = new DisposableStack();
  readonly #registers: Registers<typeof NVME>;
  readonly #admin: QueuePair;
  readonly #io: QueuePair;
  readonly #buffer: DmaMemory;
  readonly #list: DmaMemory;
  readonly #byInterrupt: boolean;
  #facts: NvmeFacts | undefined;

  private constructor(device: VfioDevice, byInterrupt: boolean) {
    using stack = new DisposableStack();
    const config = new ConfigAccess(device);
    config.setCommand({ memory: true, busMaster: true });
    const bar = stack.use(new Bar(device, 0));
    this.#registers = new Registers(NVME, bar);
    const { DSTRD, MPSMIN } = this.#registers.fields("CAP");
    if (Number(MPSMIN) !== 0) throw new UnsupportedError("nvme: the controller has no pages of 4096 bytes");
    // Doorbells (§3.1.3, SQyTDBL and CQyHDBL) are as far apart as the controller says.
    const stride = 4 * 2 ** Number(DSTRD);
    const doorbells = new Registers(
      {
        SQTDBL: { offset: 0x1000, width: 4, access: "W", strideBytes: 2 * stride, count: 2 },
        CQHDBL: { offset: 0x1000 + stride, width: 4, access: "W", strideBytes: 2 * stride, count: 2 },
      } as const satisfies RegisterTable,
      bar,
    );
    const interrupts = stack.use(new InterruptSet(device));
    if (byInterrupt) interrupts.enable("msix", 2);
    const dma = (sizeBytes: number, label: string) =>
      stack.use(device.dma.allocate(sizeBytes, { label, huge: "never" }));
    const pair = (name: string, index: number) => {
      const sleep = byInterrupt ? () => interrupts.wait(index, WAIT_MS) : undefined;
      const ring = (completion: boolean, value: number) =>
        doorbells.set(completion ? "CQHDBL" : "SQTDBL", value, index);
      return new QueuePair(dma, `nvme ${name}`, ring, sleep);
    };
    this.#admin = pair("admin", 0);
    this.#io = pair("I/O", 1);
    this.#buffer = dma(MOST_READ, "nvme data");
    this.#list = dma(PAGE, "nvme PRP list");
    // Memory goes when nothing of it is reached any more.
    stack.defer(() => {
      this.#registers.update("CC", { EN: false });
      config.setCommand({ busMaster: false });
    });
    this.#byInterrupt = byInterrupt;
    this.#stack = stack.move();
  }

  /** Brings the controller up (§3.5.1), and identifies it. @throws TimeoutError, DeviceError, UnsupportedError */
  static async open(device: VfioDevice, byInterrupt: boolean): Promise<Nvme> {
    const nvme = new Nvme(device, byInterrupt);
    try {
      await nvme.#start();
      return nvme;
    } catch (error) {
      nvme[Symbol.dispose]();
      throw error;
    }
  }

  async #start(): Promise<void> {
    const registers = this.#registers;
    const { TO } = registers.fields("CAP");
    const patienceMs = 500 * (Number(TO) + 1);
    registers.update("CC", { EN: false });
    await registers.waitFor("CSTS", { RDY: false }, patienceMs);
    registers.set("AQA", { ASQS: ENTRIES - 1, ACQS: ENTRIES - 1 });
    registers.set("ASQ", this.#admin.submissions.iova);
    registers.set("ACQ", this.#admin.completions.iova);
    registers.set("CC", { EN: true, IOSQES: 6, IOCQES: 4 });
    await registers.waitFor("CSTS", { RDY: true, CFS: false }, patienceMs);
    this.#facts = await this.#identify();
    // Contiguous; with interrupts on vector 1, or none (§5.4, §5.5).
    const size = 1 + (ENTRIES - 1) * 0x1_0000, { submissions, completions } = this.#io;
    const flags = this.#byInterrupt ? 0x1_0003 : 1;
    await this.#admin.run({
      opcode: OPCODE.createCompletion,
      data: [completions.iova, 0n],
      more: [size, flags],
    });
    await this.#admin.run({
      opcode: OPCODE.createSubmission,
      data: [submissions.iova, 0n],
      more: [size, 0x1_0001],
    });
  }

  async #identify(): Promise<NvmeFacts> {
    const bytes = async (namespace: number, structure: number) => {
      const data = this.#pointers([{ memory: this.#buffer, lengthBytes: PAGE }]);
      await this.#admin.run({ opcode: OPCODE.identify, namespace, data, more: [structure] });
      return this.#buffer.bytes(0, PAGE).slice();
    };
    const controller = await bytes(0, 1), namespace = await bytes(1, 0);
    const text = (from: number, length: number) =>
      new TextDecoder().decode(controller.subarray(from, from + length)).trim();
    const view = new DataView(namespace.buffer);
    const shift = namespace[130 + 4 * (namespace[26]! % 16)]!;
    const { MJR, MNR } = this.#registers.fields("VS");
    if (shift < 9 || shift > 12) throw new UnsupportedError(`nvme: blocks of 2^${shift} bytes`);
    return {
      version: `${MJR}.${MNR}`,
      model: text(24, 40),
      serial: text(4, 20),
      blocks: Number(view.getBigUint64(0, true)),
      blockBytes: 2 ** shift,
    };
  }

  /** PRP1 is the first piece, PRP2 the second one, or a list of all behind the first (§4.1.1). */
  #pointers(parts: readonly DmaPart[]): readonly [bigint, bigint] {
    const [first, second, ...others] = scatterList(parts, PAGE);
    if (others.length === 0) return [first!.iova, second?.iova ?? 0n];
    new BigUint64Array(this.#list.buffer).set([second!, ...others].map(({ iova }) => iova));
    return [first!.iova, this.#list.iova];
  }

  /** What was identified. */
  get facts(): NvmeFacts {
    return this.#facts!;
  }

  /** Reads blocks, as much at a time as the buffer takes. @throws DeviceError, TimeoutError */
  async read(block: number, count: number): Promise<Uint8Array<ArrayBuffer>> {
    const { blockBytes } = this.facts;
    const bytes = new Uint8Array(count * blockBytes);
    for (let done = 0; done < count;) {
      const now = Math.min(count - done, MOST_READ / blockBytes), at = block + done;
      const data = this.#pointers([{ memory: this.#buffer, lengthBytes: now * blockBytes }]);
      const more = [at % 2 ** 32, Math.floor(at / 2 ** 32), now - 1];
      await this.#io.run({ opcode: OPCODE.read, namespace: 1, data, more });
      bytes.set(this.#buffer.bytes(0, now * blockBytes), done * blockBytes);
      done += now;
    }
    return bytes;
  }

  [Symbol.dispose](): void {
    this.#stack.dispose();
  }
}

/** Identifies a function's controller and reads `count` blocks. Whatever happens, the host is put back. @throws what its steps throw */
export async function readNvme(
  host: Host,
  name: string,
  options: { readonly byInterrupt: boolean; readonly count: number; readonly path?: "group" | "cdev" },
): Promise<NvmeFacts & { readonly sha256: string; readonly bytes: number }> {
  const { byInterrupt, count, path } = options;
  try {
    host.bind(name);
    using device = host.open(name, path === undefined ? {} : { path });
    using nvme = await Nvme.open(device, byInterrupt);
    const bytes = await nvme.read(0, Math.min(count, nvme.facts.blocks));
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
    return { ...nvme.facts, bytes: bytes.length, sha256: hash.toHex() };
  } finally {
    host.restore(name);
  }
}

if (import.meta.main) {
  const [hostName, name, how = "msix"] = Deno.args;
  if (hostName === undefined || name === undefined || !["polled", "msix"].includes(how)) {
    console.error("usage: nvme.ts HOST FUNCTION [polled|msix]");
    Deno.exit(2);
  }
  using host = openHost(hostName);
  const read = await readNvme(host, name, { byInterrupt: how === "msix", count: 2048 });
  console.log(`${name}: ${read.model} ${read.serial}, NVMe ${read.version}`);
  console.log(`namespace 1: ${read.blocks} blocks of ${read.blockBytes} bytes`);
  console.log(`${read.bytes} bytes read, ${how}: SHA-256 ${read.sha256}`);
}

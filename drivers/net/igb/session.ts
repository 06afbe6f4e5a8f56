/**
 * Everything of a function of the 82576 that lives from one reset to the next.
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { Bar } from "../../../lib/vfio/bar.ts";
import { ConfigAccess } from "../../../lib/vfio/config_access.ts";
import type { VfioDevice } from "../../../lib/vfio/device.ts";
import { InterruptSet } from "../../../lib/vfio/interrupts.ts";
import { Waiter } from "../../../lib/wait/waiter.ts";
import type { IgbNetOptions } from "./options.ts";
import { IgbReceiveQueue } from "./receive.ts";
import { DescriptorRing, type QueueInterrupt } from "./ring.ts";
import { IgbTransmitQueue } from "./transmit.ts";

const ETHERNET_HEADER_BYTES = 14;
/** Bytes of a VLAN tag and of the checksum at the end, which count to what the device calls a frame's length. */
const WIRE_EXTRA_BYTES = 8;
/** A unit of SRRCTL.BSIZEPACKET. */
const KIB = 1024;
const RECEIVE_BUFFER_BYTES = 2 * KIB;
/** Advanced descriptors, one buffer each: SRRCTL.DESCTYPE. */
const ONE_BUFFER = 1;

/** The registers of a queue: both functions have them, at other places. */
export interface QueueRegisters {
  /** As `Registers.write`. */
  write(
    name: "RDBAL" | "RDBAH" | "RDLEN" | "RDH" | "RDT" | "TDBAL" | "TDBAH" | "TDLEN" | "TDH" | "TDT",
    value: number,
    index: number,
  ): void;
  /** As `Registers.set`. */
  set(name: "SRRCTL", fields: QueueLayout, index: number): void;
  /** The same. */
  set(name: "RXDCTL" | "TXDCTL", fields: { ENABLE: boolean }, index: number): void;
  /** As `Registers.waitFor`. */
  waitFor(
    name: "RXDCTL" | "TXDCTL",
    fields: { ENABLE: boolean },
    timeoutMs: number,
    index: number,
  ): Promise<unknown>;
}

/** Fields of SRRCTL that are written. */
export type QueueLayout = {
  /** Units of 1024 bytes. */
  readonly BSIZEPACKET: number;
  /** 1: advanced descriptors, one buffer each. */
  readonly DESCTYPE: number;
  /** Drop frames that find no buffer. */
  readonly DROP_EN: boolean;
};

/** The function mapped, its interrupts on, and its queues. Closed from the last to the first. */
export class IgbSession implements Disposable {
  /** Registers. */
  readonly bar: Bar;
  /** Receive queues, by pair. */
  readonly rx: IgbReceiveQueue[] = [];
  /** Transmit queues, by pair. */
  readonly tx: IgbTransmitQueue[] = [];
  /** Longest frame without checksum. */
  readonly maxFrameBytes: number;
  /** The same as the device counts it, with a VLAN tag and the checksum. */
  readonly maxWireBytes: number;
  /** How long the device may take. */
  readonly timeoutMs: number;
  /** It waits by interrupts. */
  readonly byInterrupt: boolean;
  /** What waits end by. */
  readonly waiter: Waiter;
  readonly #device: VfioDevice;
  readonly #options: IgbNetOptions;
  readonly #interrupts: InterruptSet;
  readonly #owned = new DisposableStack();

  /** Turns memory decoding on; no DMA yet. @throws UsageError, UnsupportedError, SyscallError */
  constructor(device: VfioDevice, options: IgbNetOptions) {
    const { mtu = 1500, timeoutMs = 2000, interrupts = "msix" } = options;
    if (!Number.isInteger(mtu) || mtu < 68 || mtu > 9500) {
      throw new UsageError(`${device.name}: an MTU of ${shown(mtu)}`, { hint: "68 to 9500" });
    }
    if (interrupts !== "msix" && interrupts !== "none") {
      throw new UsageError(`${device.name}: interrupts ${shown(interrupts)}`, { hint: "msix or none" });
    }
    if (!(timeoutMs > 0)) throw new UsageError(`${device.name}: a time limit of ${shown(timeoutMs)} ms`);
    this.#device = device;
    this.#options = options;
    this.timeoutMs = timeoutMs;
    this.maxFrameBytes = mtu + ETHERNET_HEADER_BYTES;
    this.maxWireBytes = this.maxFrameBytes + WIRE_EXTRA_BYTES;
    this.byInterrupt = interrupts === "msix";
    const mode = options.wait ?? (this.byInterrupt ? "adaptive" : "poll");
    if (mode !== "poll" && !this.byInterrupt) {
      throw new UsageError(`${device.name}: wait mode ${shown(mode)} without interrupts`, {
        hint: 'use wait: "poll"',
      });
    }
    using opened = new DisposableStack();
    this.waiter = opened.use(new Waiter({ mode, spinMicroseconds: options.spinMicroseconds }));
    this.bar = opened.use(new Bar(device, 0));
    this.#interrupts = opened.use(new InterruptSet(device));
    new ConfigAccess(device).setCommand({ memory: true });
    if (device.lifeline !== undefined) this.waiter.watchLifeline(device.lifeline);
    this.#owned.use(opened.move());
  }

  /** The function may start DMA and send messages: when it has been reset. */
  startDma(): void {
    new ConfigAccess(this.#device).setCommand({ busMaster: true });
  }

  /** Turns MSI-X on. @param onOther what is to be done at vector `other`: the queues' wake who waits, that is all @throws UnsupportedError */
  listen(vectors: number, other: number, onOther: () => void): void {
    if (!this.byInterrupt) return;
    const available = this.#interrupts.available("msix");
    if (available < vectors) {
      throw new UnsupportedError(
        `${this.#device.name} has ${available} MSI-X vectors, ${vectors} are needed`,
        {
          hint: 'fewer queue pairs, or interrupts: "none"',
        },
      );
    }
    // Which vectors signalled was in the messages; nothing is to be acknowledged.
    this.#interrupts.enable("msix", vectors).forEach((eventFd, vector) => {
      this.waiter.watch({ eventFd, acknowledge: () => 1 }, vector === other ? onOther : undefined);
    });
  }

  /** Sets a queue pair up, turns it on, and gives its receive buffers to the device. @throws TimeoutError, ExhaustedError, UsageError */
  async addPair(
    registers: QueueRegisters,
    index: number,
    interrupts: { readonly rx: QueueInterrupt; readonly tx: QueueInterrupt },
    counts: { readonly rx: Float64Array; readonly tx: Float64Array },
  ): Promise<void> {
    const { dma, name } = this.#device;
    const { queueSize: size = 256 } = this.#options;
    const common = { name, index, size };
    const rx = this.#owned.use(
      new DescriptorRing(dma, {
        ...common,
        label: "receive",
        slotBytes: RECEIVE_BUFFER_BYTES,
        deviceWrites: true,
        tail: (descriptor) => registers.write("RDT", descriptor, index),
        interrupt: this.byInterrupt ? interrupts.rx : null,
      }),
    );
    const tx = this.#owned.use(
      new DescriptorRing(dma, {
        ...common,
        label: "transmit",
        slotBytes: Math.ceil(this.maxFrameBytes / RECEIVE_BUFFER_BYTES) * RECEIVE_BUFFER_BYTES,
        deviceWrites: false,
        tail: (descriptor) => registers.write("TDT", descriptor, index),
        interrupt: this.byInterrupt ? interrupts.tx : null,
      }),
    );
    // A queue is off while its base and length change.
    registers.set("RXDCTL", { ENABLE: false }, index);
    registers.set("TXDCTL", { ENABLE: false }, index);
    registers.write("RDBAL", rx.iovaLow, index);
    registers.write("RDBAH", rx.iovaHigh, index);
    registers.write("RDLEN", rx.lengthBytes, index);
    registers.set("SRRCTL", {
      BSIZEPACKET: RECEIVE_BUFFER_BYTES / KIB,
      DESCTYPE: ONE_BUFFER,
      DROP_EN: true,
    }, index);
    registers.write("RDH", 0, index);
    registers.write("RDT", 0, index);
    registers.write("TDBAL", tx.iovaLow, index);
    registers.write("TDBAH", tx.iovaHigh, index);
    registers.write("TDLEN", tx.lengthBytes, index);
    registers.write("TDH", 0, index);
    registers.write("TDT", 0, index);
    registers.set("RXDCTL", { ENABLE: true }, index);
    registers.set("TXDCTL", { ENABLE: true }, index);
    await registers.waitFor("RXDCTL", { ENABLE: true }, this.timeoutMs, index);
    await registers.waitFor("TXDCTL", { ENABLE: true }, this.timeoutMs, index);
    const receive = new IgbReceiveQueue(rx, counts.rx);
    this.rx.push(receive);
    this.tx.push(new IgbTransmitQueue(tx, this.maxFrameBytes, counts.tx));
    // After the queue is on: before, the tail does not count.
    receive.start();
  }

  /** Stops DMA for good, then lets everything go. */
  [Symbol.dispose](): void {
    try {
      if (!this.#device.closed) new ConfigAccess(this.#device).setCommand({ busMaster: false });
    } finally {
      this.#owned.dispose();
    }
  }
}

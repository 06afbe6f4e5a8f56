/**
 * Driver of the Intel 82576's physical function (8086:10c9), the network card that Linux drives with igb; it serves its VFs, whoever drives them.
 *
 * ```ts
 * import { Igb } from "@ringside/ringside/drivers/igb";
 *
 * await using net = await Igb.open(device); // of `host.open`
 * await net.waitLink(5000);
 * net.send(frame);
 * const answer = await net.receive(1000);
 * ```
 *
 * Registers and descriptors are those of its datasheet; bursts are as virtio_net's: `net.rx[0].receiveBurst`, `net.tx[0].reserve`.
 *
 * @module
 */
import { requireType, typedErrors } from "../../../lib/errors/doors.ts";
import { ClosedError, UnsupportedError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { Registers } from "../../../lib/registers/registers.ts";
import type { VfioDevice } from "../../../lib/vfio/device.ts";
import type { WaitTarget } from "../../../lib/wait/waiter.ts";
import { IgbNet } from "./igb_net.ts";
import { macOf } from "./mailbox.ts";
import type { IgbNetOptions } from "./options.ts";
import { type IgbRegisters, restartNegotiation } from "./phy.ts";
import { CAUSE, IGB_REGISTERS } from "./registers.ts";
import type { QueueInterrupt } from "./ring.ts";
import type { IgbSession } from "./session.ts";
import { VfService, type VfState } from "./vf_service.ts";

export type { VfioDevice } from "../../../lib/vfio/device.ts";
export type { WaitMode, WaitTarget } from "../../../lib/wait/waiter.ts";
export { FrameBurst } from "../api/frame_burst.ts";
export type { NetDevice, NetReceiveQueue, NetTransmitQueue } from "../api/net_device.ts";
export type { NetStatistics, QueueStatistics } from "../api/statistics.ts";
export type { IgbNet } from "./igb_net.ts";
export type { IgbNetOptions } from "./options.ts";
export type { IgbReceiveQueue } from "./receive.ts";
export type { IgbTransmitQueue } from "./transmit.ts";
export type { IgbRegisters } from "./phy.ts";
export type { QueueInterrupt } from "./ring.ts";
export type { IgbSession, QueueLayout, QueueRegisters } from "./session.ts";
export { IGB_REGISTERS } from "./registers.ts";
export type { VfState } from "./vf_service.ts";

/** Options of `Igb.open`. */
export interface IgbOptions extends IgbNetOptions {
  /** VFs that will be served, 0 to 7. Each has a pool of queues, and the PF the one behind them. Default 0. */
  readonly vfs?: number | undefined;
  /** Pairs of queues, 1 to 4, between which frames are spread by RSS. Default 1; with VFs there is one. */
  readonly queuePairs?: number | undefined;
}

/** Counters of the hardware, since it was opened. */
export interface IgbHardwareStatistics {
  /** Frames that were received, and passed the filters. */
  readonly received: number;
  /** Their bytes, with checksums. */
  readonly receivedBytes: bigint;
  /** Of them, frames to a group. */
  readonly multicast: number;
  /** And to all. */
  readonly broadcast: number;
  /** Frames that were sent. */
  readonly transmitted: number;
  /** Their bytes, with checksums. */
  readonly transmittedBytes: bigint;
  /** Frames with a wrong checksum. */
  readonly crcErrors: number;
  /** Frames that found no room in the device. */
  readonly missed: number;
  /** Frames that found no buffer. */
  readonly noBuffer: number;
  /** Frames that were too long. */
  readonly oversized: number;
}

const ALL = 0xffff_ffff;
/** The vectors: link and mailboxes, then two for each pair. */
const OTHER_VECTOR = 0;
const VALID = 0x80;
const MOST_VFS = 7;
const MOST_PAIRS = 4;
const LARGEST_FRAME_BYTES = 0x2600;
/** Entries of the redirection table, four to a register. */
const RETA_ENTRIES = 128;
const RESET_MS = 10;
/** How long it may take until a signal is looked at. */
const SERVE_SLICE_MS = 100;
/** To be waited for by who has its work done by interrupts alone. */
const NOTHING: WaitTarget = {
  hasUsed: () => false,
  suppressInterrupts: () => {},
  enableInterrupts: () => false,
};

/** An opened PF. */
export class Igb extends IgbNet {
  static {
    typedErrors(this);
  }

  readonly #vfs: number;
  readonly #pairs: number;
  #registers: IgbRegisters | null = null;
  #service: VfService | null = null;
  readonly #totals = {
    received: 0,
    receivedBytes: 0n,
    multicast: 0,
    broadcast: 0,
    transmitted: 0,
    transmittedBytes: 0n,
    crcErrors: 0,
    missed: 0,
    noBuffer: 0,
    oversized: 0,
  };
  #promiscuous = false;
  readonly #vlans = new Set<number>();

  private constructor(device: VfioDevice, options: IgbOptions) {
    super(device, options);
    const { vfs = 0, queuePairs = 1 } = options;
    if (!Number.isInteger(vfs) || vfs < 0 || vfs > MOST_VFS) {
      throw new UsageError(`${device.name}: ${shown(vfs)} VFs to be served`, { hint: `0 to ${MOST_VFS}` });
    }
    if (!Number.isInteger(queuePairs) || queuePairs < 1 || queuePairs > MOST_PAIRS) {
      throw new UsageError(`${device.name}: ${shown(queuePairs)} queue pairs`, {
        hint: `1 to ${MOST_PAIRS}`,
      });
    }
    if (vfs > 0 && queuePairs > 1) {
      throw new UnsupportedError(`${device.name}: ${queuePairs} queue pairs beside VFs`, {
        hint: "with VFs the PF has one pair",
      });
    }
    this.#vfs = vfs;
    this.#pairs = queuePairs;
  }

  /**
   * Resets the function and brings it up. The link may come later: `waitLink`.
   * @param device an open function, the caller's
   * @throws TimeoutError, UnsupportedError, UsageError, ExhaustedError, SyscallError
   */
  static async open(device: VfioDevice, options: IgbOptions = {}): Promise<Igb> {
    requireType(device, "object", "Igb.open: device", "name", "regionInfo", "readRegion", "writeRegion");
    requireType(options, "object", "Igb.open: options");
    return await new Igb(device, options).opened();
  }

  /** The registers, by name. @throws ClosedError */
  get registers(): IgbRegisters {
    if (this.#registers === null) throw new ClosedError(this.name);
    return this.#registers;
  }

  /** The PF's pool of queues, and its first queue. */
  get #pool(): number {
    return this.#vfs;
  }

  /** Resets the function and brings it up. */
  protected async start(session: IgbSession): Promise<void> {
    const registers = new Registers(IGB_REGISTERS, session.bar);
    await resetFunction(registers, session.timeoutMs);
    // The address is loaded from the EEPROM after a reset.
    await registers.waitFor("RAH", { AV: true }, session.timeoutMs);
    this.address.set(macOf(registers.get("RAL"), registers.fields("RAH").ADDRESS));
    this.#registers = registers;
    session.startDma();
    this.#setUpInterrupts(session, registers);
    this.#setUpFilters(session, registers);
    if (this.#pairs > 1) setUpRss(registers, this.#pairs);
    registers.update("RCTL", { RXEN: true, BAM: true, SECRC: true, LPE: true });
    registers.update("TCTL", { EN: true, PSP: true });
    for (let pair = 0; pair < this.#pairs; pair++) {
      const interrupts = { rx: vectorOf(registers, 1 + 2 * pair), tx: vectorOf(registers, 2 + 2 * pair) };
      await session.addPair(registers, this.#pool + pair, interrupts, this.counts);
    }
    registers.update("CTRL", { SLU: true, FRCSPD: false, FRCDPLX: false });
    await restartNegotiation(registers, session.timeoutMs);
    if (this.#vfs > 0) {
      const { address } = this;
      const settings = { vfs: this.#vfs, pool: this.#pool, largestFrameBytes: LARGEST_FRAME_BYTES, address };
      this.#service = new VfService(registers, settings);
      // From here on VFs know that the PF has been reset, and may begin.
      registers.update("CTRL_EXT", { PFRSTD: true });
      this.#service.announce();
    }
    for (const vlan of this.#vlans) this.#enableVlan(vlan);
    if (this.#promiscuous) this.#applyPromiscuous();
    this.updateLink();
  }

  #setUpInterrupts(session: IgbSession, registers: IgbRegisters): void {
    if (!session.byInterrupt) return;
    const vectors = 1 + 2 * this.#pairs;
    session.listen(vectors, OTHER_VECTOR, () => this.service());
    // MSI-X, each vector for itself; a cause is cleared when its message is sent, and ICR when it is read.
    registers.set("GPIE", { NSICR: true, MULTIPLE_MSIX: true, PBA_SUPPORT: true });
    registers.write("EIAC", 2 ** vectors - 1);
    // A driver of before may have had interrupts held back, and a reset does not change that.
    for (let vector = 0; vector < vectors; vector++) registers.write("EITR", 0, vector);
    for (let pair = 0; pair < this.#pairs; pair++) {
      const queue = this.#pool + pair;
      const entries = (VALID | (1 + 2 * pair)) | ((VALID | (2 + 2 * pair)) << 8);
      // Queues 8 to 15 are in the upper halves.
      registers.write("IVAR", queue < 8 ? entries : entries * 2 ** 16, queue % 8);
    }
    registers.write("IVAR_MISC", (VALID | OTHER_VECTOR) << 8);
    registers.write("IMS", CAUSE.LSC | CAUSE.VMMB);
    registers.write("EIMS", 1 << OTHER_VECTOR);
  }

  #setUpFilters(session: IgbSession, registers: IgbRegisters): void {
    for (let at = 0; at < 128; at++) registers.write("MTA", 0, at);
    if (this.#vfs === 0) {
      registers.set("RLPML", { LENGTH: session.maxWireBytes });
      return;
    }
    registers.set("RLPML", { LENGTH: LARGEST_FRAME_BYTES });
    const pools = 1 << this.#pool;
    registers.write("VFRE", pools);
    registers.write("VFTE", pools);
    registers.update("RAH", { POOLSEL: pools });
    registers.set("VMOLR", {
      RLPML: session.maxWireBytes,
      LPE: true,
      AUPE: true,
      ROMPE: true,
      BAM: true,
      STRCRC: true,
    }, this.#pool);
    registers.set("RPLOLR", { STRCRC: true });
    // Frames of one pool to another stay inside; what nobody asked for is the PF's.
    registers.set("DTXSWC", { LOOPBACK_EN: true });
    registers.set("VT_CTL", { DEF_PL: this.#pool, RPL_EN: true });
    registers.set("MRQC", { ENABLE: "vmdq" });
    // A full queue must not hold up those of others.
    registers.write("QDE", 0xffff);
    registers.update("RCTL", { VFE: true });
  }

  /** Stops the function. */
  protected stop(): void {
    const registers = this.#registers;
    this.#registers = null;
    this.#service = null;
    if (registers === null) return;
    registers.write("IMC", ALL);
    registers.write("EIMC", ALL);
    registers.write("RCTL", 0);
    registers.write("TCTL", 0);
    registers.update("CTRL", { RST: true });
  }

  /** STATUS.LU. */
  protected readLink(): boolean {
    return this.registers.fields("STATUS").LU;
  }

  /** Looks whether the link changed, and answers VFs. What waits does so by interrupt; while polling, call it now and then. @throws UsageError for more VFs than `vfs` */
  service(): void {
    const { registers } = this;
    // What it says is looked up below; reading clears it.
    registers.read("ICR");
    const before = this.linkUp;
    const changed = this.updateLink() !== before;
    const { NUM_VFS } = registers.fields("STATUS");
    if (NUM_VFS > this.#vfs) {
      throw new UsageError(`${this.name} has ${NUM_VFS} VFs, and was opened to serve ${this.#vfs}`, {
        hint: "open it with vfs",
      });
    }
    this.#service?.serve();
    if (changed) this.#service?.announce();
  }

  /** Answers VFs until the device is closed, also after resets, or `signal` says so: where nothing else waits. @throws as `service` */
  async serveVfs(signal?: AbortSignal): Promise<void> {
    while (!this.closed && signal?.aborted !== true) {
      const registers = this.#registers;
      if (registers === null || !this.live.byInterrupt) {
        await new Promise((resolve) => setTimeout(resolve, 1));
        if (this.#registers !== null) this.service();
        continue;
      }
      this.service();
      try {
        // The interrupt does the rest, whoever waits.
        await this.live.waiter.wait(NOTHING, SERVE_SLICE_MS);
      } catch (error) {
        if (this.#registers === registers) throw error;
      }
    }
  }

  /** What is known of each VF. */
  get vfStates(): VfState[] {
    return this.#service?.states() ?? [];
  }

  /** Takes the link down and starts negotiating anew; VFs are told of both. @throws TimeoutError, DeviceError */
  async restartLink(): Promise<void> {
    await restartNegotiation(this.registers, this.live.timeoutMs);
    this.service();
  }

  /** Receives frames for all addresses; with VFs, those that are nobody's. */
  setPromiscuous(on: boolean): Promise<void> {
    this.#promiscuous = on;
    this.#applyPromiscuous();
    return Promise.resolve();
  }

  #applyPromiscuous(): void {
    const on = this.#promiscuous;
    this.registers.update("RCTL", { UPE: on, MPE: on });
    if (this.#vfs > 0) this.registers.update("VMOLR", { ROPE: on, MPE: on }, this.#pool);
  }

  /** Receives frames of a VLAN, or no longer. With VFs, others are dropped; without, those of all VLANs come until the first is set. */
  setVlan(vlan: number, on: boolean): void {
    if (!Number.isInteger(vlan) || vlan < 0 || vlan > 4095) {
      throw new UsageError(`${this.name}: VLAN ${shown(vlan)}`, { hint: "0 to 4095" });
    }
    if (on) {
      this.#enableVlan(vlan);
      this.#vlans.add(vlan);
      return;
    }
    this.#vlans.delete(vlan);
    if (this.#service !== null) this.#service.setVlan(this.#pool, vlan, false);
    else this.#filterVlan(vlan, false);
  }

  #enableVlan(vlan: number): void {
    if (this.#service !== null) {
      if (this.#service.setVlan(this.#pool, vlan, true)) return;
      throw new UnsupportedError(`${this.name}: no room for VLAN ${vlan} beside 32 others`);
    }
    this.#filterVlan(vlan, true);
    this.registers.update("RCTL", { VFE: true });
  }

  #filterVlan(vlan: number, on: boolean): void {
    const { registers } = this;
    const bit = 1 << vlan % 32, at = vlan >> 5;
    const before = registers.read("VFTA", at);
    // Unsigned: 32 bits.
    registers.write("VFTA", (on ? before | bit : before & ~bit) >>> 0, at);
  }

  /** Counters of the hardware since `open`; reading its registers clears them, so they are added up here. */
  hardwareStatistics(): IgbHardwareStatistics {
    const { registers } = this;
    const totals = this.#totals;
    totals.received += registers.read("GPRC");
    totals.receivedBytes += registers.read64("GORC");
    totals.multicast += registers.read("MPRC");
    totals.broadcast += registers.read("BPRC");
    totals.transmitted += registers.read("GPTC");
    totals.transmittedBytes += registers.read64("GOTC");
    totals.crcErrors += registers.read("CRCERRS");
    totals.missed += registers.read("MPC");
    totals.noBuffer += registers.read("RNBC");
    totals.oversized += registers.read("ROC");
    return { ...totals };
  }
}

/** Stops DMA, resets, and holds all interrupts back. @throws TimeoutError */
async function resetFunction(registers: IgbRegisters, timeoutMs: number): Promise<void> {
  registers.write("IMC", ALL);
  registers.write("EIMC", ALL);
  registers.write("RCTL", 0);
  registers.write("TCTL", 0);
  registers.update("CTRL", { GIO_MASTER_DISABLE: true });
  await registers.waitFor("STATUS", { GIO_MASTER_ENABLE: false }, timeoutMs);
  registers.update("CTRL", { RST: true });
  // The device must not be accessed for a millisecond.
  await new Promise((resolve) => setTimeout(resolve, RESET_MS));
  await registers.waitFor("CTRL", { RST: false }, timeoutMs);
  registers.write("IMC", ALL);
  registers.write("EIMC", ALL);
  registers.read("ICR");
}

/** Spreads frames over the first queues, by addresses and ports of IP. */
function setUpRss(registers: IgbRegisters, pairs: number): void {
  for (let at = 0; at < 10; at++) {
    registers.write("RSSRK", crypto.getRandomValues(new Uint32Array(1))[0]!, at);
  }
  for (let at = 0; at < RETA_ENTRIES; at += 4) {
    const entry = (behind: number) => (at + behind) % pairs;
    registers.write("RETA", entry(0) | (entry(1) << 8) | (entry(2) << 16) | (entry(3) << 24), at / 4);
  }
  // The hash is where a checksum would be.
  registers.update("RXCSUM", { PCSD: true });
  registers.set("MRQC", { ENABLE: "rss", TCP_IPV4: true, IPV4: true, IPV6: true, UDP_IPV4: true });
}

function vectorOf(registers: IgbRegisters, vector: number): QueueInterrupt {
  return {
    enable: () => registers.write("EIMS", 1 << vector),
    suppress: () => registers.write("EIMC", 1 << vector),
  };
}

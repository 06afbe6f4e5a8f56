/**
 * Driver of the Intel 82576's virtual functions (8086:10ca), which Linux drives with igbvf. Somebody must drive the PF, and serve its VFs: `Igb`, or
 * Linux's igb.
 *
 * ```ts
 * import { IgbVf } from "@ringside/ringside/drivers/igbvf";
 *
 * await using net = await IgbVf.open(device); // of `host.open`
 * await net.waitLink(5000);
 * net.send(frame);
 * const answer = await net.receive(1000);
 * ```
 *
 * @module
 */
import { requireType, typedErrors } from "../../../lib/errors/doors.ts";
import { ClosedError, DeviceError, RefusedError, UsageError } from "../../../lib/errors/mod.ts";
import { shown } from "../../../lib/errors/shown.ts";
import { Registers } from "../../../lib/registers/registers.ts";
import type { VfioDevice } from "../../../lib/vfio/device.ts";
import { IgbNet } from "./igb_net.ts";
import { isUnicast, macOf, macWords, madeUpMac, MESSAGE, MOST_HASHES, multicastMessage } from "./mailbox.ts";
import type { IgbNetOptions } from "./options.ts";
import type { QueueInterrupt } from "./ring.ts";
import type { IgbSession } from "./session.ts";
import { type IgbVfRegisters, requestWords, VfMailbox } from "./vf_mailbox.ts";
import { IGBVF_REGISTERS } from "./vf_registers.ts";

export type { VfioDevice } from "../../../lib/vfio/device.ts";
export type { WaitMode, WaitTarget } from "../../../lib/wait/waiter.ts";
export { FrameBurst } from "../api/frame_burst.ts";
export type { NetDevice, NetReceiveQueue, NetTransmitQueue } from "../api/net_device.ts";
export type { NetStatistics, QueueStatistics } from "../api/statistics.ts";
export type { IgbNet } from "./igb_net.ts";
export type { IgbNetOptions } from "./options.ts";
export type { IgbReceiveQueue } from "./receive.ts";
export type { QueueInterrupt } from "./ring.ts";
export type { IgbSession, QueueLayout, QueueRegisters } from "./session.ts";
export type { IgbTransmitQueue } from "./transmit.ts";
export type { IgbVfRegisters } from "./vf_mailbox.ts";
export { IGBVF_REGISTERS } from "./vf_registers.ts";

/** Counters of the hardware, of 32 bits: they run over. */
export interface IgbVfHardwareStatistics {
  /** Frames that were received. */
  readonly received: number;
  /** Their bytes, with checksums. */
  readonly receivedBytes: number;
  /** Of them, frames to a group. */
  readonly multicast: number;
  /** Frames that were sent. */
  readonly transmitted: number;
  /** Their bytes, with checksums. */
  readonly transmittedBytes: number;
}

const ALL_VECTORS = 7;
/** The three vectors. */
const VECTOR = { transmit: 0, receive: 1, mailbox: 2 } as const;
const VALID = 0x80;
const CHECKSUM_BYTES = 4;

/** An opened VF. */
export class IgbVf extends IgbNet {
  static {
    typedErrors(this);
  }

  #registers: IgbVfRegisters | null = null;
  #mailbox: VfMailbox | null = null;
  /** What was asked of the PF and is asked again after a reset. */
  #wantedMac: Uint8Array | null = null;
  #groups: readonly Uint8Array[] = [];
  readonly #vlans = new Set<number>();

  private constructor(device: VfioDevice, options: IgbNetOptions) {
    super(device, options);
  }

  /**
   * Resets the function, asks the PF for an address, and brings it up. The link may come later: `waitLink`.
   * @param device an open function, the caller's
   * @throws TimeoutError (nobody serves the PF), RefusedError, UnsupportedError, UsageError, ExhaustedError, SyscallError
   */
  static async open(device: VfioDevice, options: IgbNetOptions = {}): Promise<IgbVf> {
    requireType(device, "object", "IgbVf.open: device", "name", "regionInfo", "readRegion", "writeRegion");
    requireType(options, "object", "IgbVf.open: options");
    return await new IgbVf(device, options).opened();
  }

  /** The registers, by name. @throws ClosedError */
  get registers(): IgbVfRegisters {
    if (this.#registers === null) throw new ClosedError(this.name);
    return this.#registers;
  }

  /** Resets the function and brings it up. */
  protected async start(session: IgbSession): Promise<void> {
    const registers = new Registers(IGBVF_REGISTERS, session.bar);
    const mailbox = new VfMailbox(this.name, registers, session.timeoutMs);
    this.#registers = registers;
    this.#mailbox = mailbox;
    registers.write("EIMC", ALL_VECTORS);
    registers.set("CTRL", { RST: true });
    await mailbox.waitPf();
    const given = await askForReset(mailbox, this.name);
    this.address.set(given);
    session.startDma();
    this.#setUpInterrupts(session, registers);
    await session.addPair(
      registers,
      0,
      {
        rx: vectorOf(registers, VECTOR.receive),
        tx: vectorOf(registers, VECTOR.transmit),
      },
      this.counts,
    );
    // Of a VF the device counts no VLAN tag.
    const lengthBytes = session.maxFrameBytes + CHECKSUM_BYTES;
    await mailbox.request(requestWords(MESSAGE.setMaxFrame, 0, lengthBytes));
    // It is asked for in any case: the answer says that requests are welcome.
    await this.#applyMac(this.#wantedMac ?? given);
    if (this.#groups.length > 0) await mailbox.request(multicastMessage(this.#groups));
    for (const vlan of this.#vlans) await mailbox.request(requestWords(MESSAGE.setVlan, 1, vlan));
    this.updateLink();
  }

  #setUpInterrupts(session: IgbSession, registers: IgbVfRegisters): void {
    if (!session.byInterrupt) return;
    session.listen(Object.keys(VECTOR).length, VECTOR.mailbox, () => this.service());
    registers.write("EIAC", ALL_VECTORS);
    // A driver of before may have had interrupts held back, and a reset does not change that.
    for (const vector of Object.values(VECTOR)) registers.write("EITR", 0, vector);
    registers.write("IVAR", VALID | VECTOR.receive | ((VALID | VECTOR.transmit) << 8));
    registers.write("IVAR_MISC", VALID | VECTOR.mailbox);
    registers.write("EIMS", 1 << VECTOR.mailbox);
  }

  /** Stops the function. */
  protected stop(): void {
    const registers = this.#registers;
    this.#mailbox?.end(new ClosedError(this.name));
    this.#registers = null;
    this.#mailbox = null;
    if (registers === null) return;
    registers.write("EIMC", ALL_VECTORS);
    registers.set("CTRL", { RST: true });
  }

  /** STATUS.LU, while the PF takes requests. */
  protected readLink(): boolean {
    return this.registers.fields("STATUS").LU && this.#mailbox!.clearToSend;
  }

  /** False when the PF has been reset since: then `await reset()`. Looks into the mailbox: the VF's interrupts do not outlive a reset of its PF. */
  get pfReady(): boolean {
    const mailbox = this.#mailbox;
    mailbox?.service();
    return mailbox?.clearToSend ?? false;
  }

  /** Takes what the PF says, and looks at the link. What waits does so by interrupt; while polling, call it now and then. */
  service(): void {
    const { registers } = this;
    this.#mailbox!.service();
    if (this.#registers === registers) this.updateLink();
  }

  /** Sets the function's address. @throws RefusedError by the PF, UsageError */
  async setMac(mac: Uint8Array): Promise<void> {
    requireType(mac, "bytes", "setMac: mac");
    if (!isUnicast(mac)) {
      throw new UsageError(`${this.name}: ${shown(mac)} is no address of a function`, {
        hint: "six bytes, the lowest bit of the first 0",
      });
    }
    await this.#applyMac(mac);
    this.#wantedMac = mac.slice();
  }

  async #applyMac(mac: Uint8Array): Promise<void> {
    await this.#box.request(requestWords(MESSAGE.setMac, 0, ...macWords(mac)));
    this.address.set(mac);
  }

  /** Receives frames for these group addresses, by a hash of 12 bits: others may come, too. @throws RefusedError, UsageError for more than 30 */
  async setMulticast(groups: readonly Uint8Array[]): Promise<void> {
    requireType(groups, "array", "setMulticast: groups");
    if (groups.length > MOST_HASHES) {
      throw new UsageError(`${this.name}: ${groups.length} group addresses`, {
        hint: `up to ${MOST_HASHES}`,
      });
    }
    for (const group of groups) {
      requireType(group, "bytes", "setMulticast: a group");
      if (group.length !== 6) throw new UsageError(`${this.name}: ${shown(group)} is no group address`);
    }
    await this.#box.request(multicastMessage(groups));
    this.#groups = groups.map((group) => group.slice());
  }

  /** Receives frames of a VLAN, or no longer. @throws RefusedError, UsageError */
  async setVlan(vlan: number, on: boolean): Promise<void> {
    if (!Number.isInteger(vlan) || vlan < 0 || vlan > 4095) {
      throw new UsageError(`${this.name}: VLAN ${shown(vlan)}`, { hint: "0 to 4095" });
    }
    await this.#box.request(requestWords(MESSAGE.setVlan, on ? 1 : 0, vlan));
    if (on) this.#vlans.add(vlan);
    else this.#vlans.delete(vlan);
  }

  /** Asks the PF for frames for all group addresses. A PF gives no VF those of others' addresses. @throws RefusedError by most PFs */
  async setPromiscuous(on: boolean): Promise<void> {
    await this.#box.request(requestWords(MESSAGE.setPromiscuous, on ? 3 : 0));
  }

  /** Asks the PF something that this driver has no word for. @param words up to 16 @returns its answer @throws RefusedError, TimeoutError */
  ask(words: readonly number[]): Promise<readonly number[]> {
    requireType(words, "array", "ask: words");
    if (words.length < 1 || words.length > 16) {
      throw new UsageError(`${this.name}: a message of ${words.length} words`, { hint: "1 to 16" });
    }
    return this.#box.request(words);
  }

  get #box(): VfMailbox {
    if (this.#mailbox === null) throw new ClosedError(this.name);
    return this.#mailbox;
  }

  /** Counters of the hardware. */
  hardwareStatistics(): IgbVfHardwareStatistics {
    const { registers } = this;
    return {
      received: registers.read("VFGPRC"),
      receivedBytes: registers.read("VFGORC"),
      multicast: registers.read("VFMPRC"),
      transmitted: registers.read("VFGPTC"),
      transmittedBytes: registers.read("VFGOTC"),
    };
  }
}

/** @returns the address that the PF has for this function, or one that is made up where it has none */
async function askForReset(mailbox: VfMailbox, name: string): Promise<Uint8Array<ArrayBuffer>> {
  let answer: readonly number[];
  try {
    answer = await mailbox.request(requestWords(MESSAGE.reset, 0));
  } catch (error) {
    // Linux's igb answers so, although it has done it.
    if (error instanceof RefusedError) return madeUpMac();
    throw error;
  }
  const given = macOf(answer[1]!, answer[2]!);
  if (isUnicast(given)) return given;
  throw new DeviceError("the PF gives an address that is none", { function: name, field: "VMBMEM" }, {
    hint: "set one with the driver of the PF",
  });
}

function vectorOf(registers: IgbVfRegisters, vector: number): QueueInterrupt {
  return {
    enable: () => registers.write("EIMS", 1 << vector),
    suppress: () => registers.write("EIMC", 1 << vector),
  };
}

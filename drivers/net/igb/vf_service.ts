/**
 * What an 82576's PF does for its VFs: it answers their mailboxes. VFs are not trusted.
 *
 * @module
 */
import {
  CLEAR_TO_SEND,
  DONE,
  firstWord,
  isUnicast,
  macOf,
  macWords,
  madeUpMac,
  MAILBOX_WORDS,
  MESSAGE,
  messageInfo,
  messageType,
  multicastHashes,
  REFUSED,
  says,
} from "./mailbox.ts";
import type { IgbRegisters } from "./phy.ts";

/** What a PF knows of a VF. */
export interface VfState {
  /** It has been reset since the PF was, and may ask. */
  readonly clearToSend: boolean;
  /** Its address. */
  readonly mac: Uint8Array;
  /** Its VLANs. */
  readonly vlans: readonly number[];
  /** Messages that were answered. */
  readonly messages: number;
  /** Of them, those that were refused. */
  readonly refused: number;
}

/** How VFs are served. */
export interface VfServiceOptions {
  /** How many. */
  readonly vfs: number;
  /** The PF's pool, behind theirs. */
  readonly pool: number;
  /** With VLAN tag and checksum. */
  readonly largestFrameBytes: number;
  /** The PF's own, which no VF gets. */
  readonly address: Uint8Array;
}

interface Vf {
  clearToSend: boolean;
  /** What was said last has not been acknowledged. */
  unread: boolean;
  /** It is to be told of a change when it has been. */
  owed: boolean;
  mac: Uint8Array<ArrayBuffer>;
  hashes: number[];
  messages: number;
  refused: number;
}

/** Tries to get a mailbox that its VF is writing to. */
const LOCK_TRIES = 16;
const VLAN_PLACES = 32;
/** The longest frame of a VF that has not asked for another, with VLAN tag and checksum. */
const USUAL_FRAME_BYTES = 1522;
const LEAST_FRAME_BYTES = 64;

/** See the module. */
export class VfService {
  readonly #registers: IgbRegisters;
  readonly #options: VfServiceOptions;
  readonly #vfs: Vf[];

  /** Every VF gets a made-up address; none may send or receive before it asks for a reset. */
  constructor(registers: IgbRegisters, options: VfServiceOptions) {
    this.#registers = registers;
    this.#options = options;
    this.#vfs = Array.from({ length: options.vfs }, () => ({
      clearToSend: false,
      unread: false,
      owed: false,
      mac: madeUpMac(),
      hashes: [],
      messages: 0,
      refused: 0,
    }));
  }

  /** What is known of each VF. */
  states(): VfState[] {
    return this.#vfs.map(({ clearToSend, mac, messages, refused }, vf) => ({
      clearToSend,
      mac: mac.slice(),
      vlans: this.#vlansOf(vf),
      messages,
      refused,
    }));
  }

  /** Tells all VFs that something changed: the link, or that the PF is there again. */
  announce(): void {
    this.#vfs.forEach((_, vf) => this.#announce(vf));
  }

  #announce(vf: number): void {
    const registers = this.#registers, state = this.#vfs[vf]!;
    // What it has not read yet is not overwritten; nor what it has just asked, and then the answer has it look at the link, too.
    state.owed = state.unread;
    if (state.unread || !this.#lock(vf)) return;
    const asks = (registers.fields("MBVFICR").VFREQ & (1 << vf)) !== 0;
    if (asks) registers.set("P2VMAILBOX", {}, vf);
    else this.#write(vf, [firstWord(MESSAGE.control, 0, state.clearToSend ? CLEAR_TO_SEND : 0)]);
  }

  /** Answers what there is, once a VF: one that asks without end does not keep the others waiting. */
  serve(): void {
    const registers = this.#registers;
    const gone = registers.read("VFLRE");
    if (gone !== 0) registers.write("VFLRE", gone);
    const causes = registers.fields("MBVFICR");
    if (causes.raw !== 0) registers.write("MBVFICR", causes.raw);
    this.#vfs.forEach((state, vf) => {
      const bit = 1 << vf;
      if ((gone & bit) !== 0) this.#forget(vf);
      if ((causes.VFACK & bit) !== 0) state.unread = false;
      if ((causes.VFREQ & bit) !== 0) this.#answer(vf);
      else if (state.owed && !state.unread) this.#announce(vf);
    });
  }

  #answer(vf: number): void {
    const words = this.#hear(vf);
    if (words === undefined) return;
    const word = words[0]!, type = messageType(word);
    // An answer of ours that nobody overwrote.
    if (says(word, DONE) || says(word, REFUSED)) return;
    const state = this.#vfs[vf]!;
    state.messages++;
    if (type === MESSAGE.reset) {
      // It was reset before it said so. Looked at later, that would take back what it is given now.
      this.#registers.write("VFLRE", 1 << vf);
      this.#forget(vf);
      this.#enable(vf);
      state.clearToSend = true;
      this.#say(vf, [firstWord(type, 0, DONE), ...macWords(state.mac)]);
      return;
    }
    const done = state.clearToSend && this.#carryOut(vf, type, words);
    if (!done) state.refused++;
    const cts = state.clearToSend ? CLEAR_TO_SEND : 0;
    this.#say(vf, [firstWord(type, messageInfo(word), (done ? DONE : REFUSED) | cts)]);
  }

  #carryOut(vf: number, type: number, words: readonly number[]): boolean {
    const state = this.#vfs[vf]!;
    switch (type) {
      case MESSAGE.setMac: {
        // Further addresses (an info of 1 or 2) are not given out; that there are none to be cleared is no fault.
        const info = messageInfo(words[0]!);
        return info === 0 ? this.#setMac(vf, macOf(words[1]!, words[2]!)) : info === 1;
      }
      case MESSAGE.setMulticast:
        state.hashes = multicastHashes(words);
        this.#writeMulticast();
        return true;
      case MESSAGE.setVlan: {
        const vlan = words[1]! & 0xfff;
        return this.setVlan(vf, vlan, messageInfo(words[0]!) !== 0);
      }
      case MESSAGE.setMaxFrame: {
        const lengthBytes = words[1]!;
        if (lengthBytes < LEAST_FRAME_BYTES || lengthBytes > this.#options.largestFrameBytes) return false;
        // What VFs say is without the tag.
        const RLPML = Math.min(lengthBytes + 4, this.#options.largestFrameBytes);
        this.#registers.update("VMOLR", { LPE: true, RLPML }, vf);
        return true;
      }
      case MESSAGE.setPromiscuous: {
        // All group addresses (an info of 2) may be had; all addresses not: they are others'.
        const info = messageInfo(words[0]!);
        this.#registers.update("VMOLR", { MPE: (info & 2) !== 0 }, vf);
        return (info & ~2) === 0;
      }
      default:
        return false;
    }
  }

  #setMac(vf: number, mac: Uint8Array<ArrayBuffer>): boolean {
    const { address } = this.#options;
    const taken = same(mac, address) || this.#vfs.some((one, at) => at !== vf && same(mac, one.mac));
    if (!isUnicast(mac) || taken) return false;
    this.#vfs[vf]!.mac = mac;
    this.#writeMac(vf);
    return true;
  }

  #writeMac(vf: number): void {
    const [low, high] = macWords(this.#vfs[vf]!.mac);
    this.#registers.set("RAH", { AV: false }, 1 + vf);
    this.#registers.write("RAL", low, 1 + vf);
    this.#registers.set("RAH", { ADDRESS: high, POOLSEL: 1 << vf, AV: true }, 1 + vf);
  }

  #enable(vf: number): void {
    const registers = this.#registers, bit = 1 << vf;
    this.#writeMac(vf);
    registers.set("VMOLR", {
      RLPML: USUAL_FRAME_BYTES,
      LPE: true,
      AUPE: true,
      ROMPE: true,
      BAM: true,
      STRCRC: true,
    }, vf);
    registers.write("VFTE", registers.read("VFTE") | bit);
    registers.write("VFRE", registers.read("VFRE") | bit);
  }

  /** What the VF had asked for; its address stays. */
  #forget(vf: number): void {
    const registers = this.#registers, bit = 1 << vf;
    const state = this.#vfs[vf]!;
    state.clearToSend = state.unread = state.owed = false;
    registers.write("VFRE", registers.read("VFRE") & ~bit);
    registers.write("VFTE", registers.read("VFTE") & ~bit);
    registers.set("RAH", { AV: false }, 1 + vf);
    for (const vlan of this.#vlansOf(vf)) this.setVlan(vf, vlan, false);
    if (state.hashes.length === 0) return;
    state.hashes = [];
    this.#writeMulticast();
  }

  #writeMulticast(): void {
    const table = new Uint32Array(128);
    for (const { hashes } of this.#vfs) {
      for (const hash of hashes) table[hash >> 5]! |= 1 << hash % 32;
    }
    table.forEach((word, at) => this.#registers.write("MTA", word, at));
  }

  #vlansOf(pool: number): number[] {
    const vlans: number[] = [];
    for (let at = 0; at < VLAN_PLACES; at++) {
      const { ENABLE, POOLSEL, VLANID } = this.#registers.fields("VLVF", at);
      if (ENABLE && (POOLSEL & (1 << pool)) !== 0) vlans.push(VLANID);
    }
    return vlans;
  }

  /** Takes a pool into a VLAN, or out of it. @returns false when there are 32 others */
  setVlan(pool: number, vlan: number, on: boolean): boolean {
    const registers = this.#registers;
    let place = -1, free = -1;
    for (let at = 0; at < VLAN_PLACES && place < 0; at++) {
      const { ENABLE, VLANID } = registers.fields("VLVF", at);
      if (ENABLE && VLANID === vlan) place = at;
      else if (!ENABLE && free < 0) free = at;
    }
    if (place < 0 && !on) return true;
    const at = place < 0 ? free : place;
    if (at < 0) return false;
    const before = place < 0 ? 0 : registers.fields("VLVF", at).POOLSEL;
    const pools = on ? before | (1 << pool) : before & ~(1 << pool);
    registers.set("VLVF", pools === 0 ? {} : { VLANID: vlan, POOLSEL: pools, ENABLE: true }, at);
    const word = registers.read("VFTA", vlan >> 5), bit = 1 << vlan % 32;
    // Unsigned: 32 bits.
    registers.write("VFTA", (pools === 0 ? word & ~bit : word | bit) >>> 0, vlan >> 5);
    return true;
  }

  /** Takes a message out. @returns undefined when the VF does not let go of the mailbox: it must ask again */
  #hear(vf: number): number[] | undefined {
    const registers = this.#registers;
    if (!this.#lock(vf)) return undefined;
    const words = Array.from(
      { length: MAILBOX_WORDS },
      (_, at) => registers.read("VMBMEM", vf * MAILBOX_WORDS + at),
    );
    registers.set("P2VMAILBOX", { ACK: true }, vf);
    return words;
  }

  #say(vf: number, words: readonly number[]): void {
    if (this.#lock(vf)) this.#write(vf, words);
  }

  #write(vf: number, words: readonly number[]): void {
    const registers = this.#registers;
    words.forEach((word, at) => registers.write("VMBMEM", word, vf * MAILBOX_WORDS + at));
    this.#vfs[vf]!.unread = true;
    registers.set("P2VMAILBOX", { STS: true }, vf);
  }

  #lock(vf: number): boolean {
    const registers = this.#registers;
    for (let tries = 0; tries < LOCK_TRIES; tries++) {
      registers.set("P2VMAILBOX", { PFU: true }, vf);
      if (registers.fields("P2VMAILBOX", vf).PFU) return true;
    }
    // It holds on: it is taken away from it, with what it was writing.
    registers.set("P2VMAILBOX", { RVFU: true }, vf);
    return false;
  }
}

function same(a: Uint8Array, b: Uint8Array): boolean {
  return a.every((byte, at) => byte === b[at]);
}

/**
 * Messages between the 82576's PF and its VFs (datasheet 7.10.2.9.1 has the mailbox; what the drivers say in it is a convention that all of them share).
 *
 * The first word says what it is; its uppermost bits say whether it was done, and whether the VF may ask for more.
 *
 * @module
 */

/** Words of a mailbox. */
export const MAILBOX_WORDS = 16;
/** What a VF asks for, and what a PF says of its own accord: the low half of the first word. */
export const MESSAGE = {
  reset: 0x01,
  setMac: 0x02,
  setMulticast: 0x03,
  setVlan: 0x04,
  setMaxFrame: 0x05,
  setPromiscuous: 0x06,
  control: 0x0100,
} as const;
/** In the first word of an answer: done. */
export const DONE = 0x8000_0000;
/** Refused. */
export const REFUSED = 0x4000_0000;
/** The PF takes requests of this VF: it has been reset since the PF was. */
export const CLEAR_TO_SEND = 0x2000_0000;

const TYPE_MASK = 0xffff;
const INFO_SHIFT = 16;
/** Hashes of group addresses that one message has room for. */
export const MOST_HASHES = 30;

/** What the message is: the low half of its first word. */
export function messageType(word: number): number {
  return word & TYPE_MASK;
}

/** What else the first word says: a number of hashes, whether to add. */
export function messageInfo(word: number): number {
  return (word >>> INFO_SHIFT) & 0xff;
}

/** All of these bits are set. */
export function says(word: number, flag: number): boolean {
  return (word & flag) !== 0;
}

/** The first word of a message. */
export function firstWord(type: number, info = 0, flags = 0): number {
  // Unsigned: 32 bits.
  return (type | (info << INFO_SHIFT) | flags) >>> 0;
}

/** A MAC address in two words, the first byte lowest. */
export function macWords(mac: Uint8Array): [number, number] {
  const low = mac[0]! | (mac[1]! << 8) | (mac[2]! << 16) | (mac[3]! << 24);
  return [low >>> 0, mac[4]! | (mac[5]! << 8)];
}

/** The address in two words. */
export function macOf(low: number, high: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(low, low >>> 8, low >>> 16, low >>> 24, high, high >>> 8);
}

/** Twelve bits of a group address, as the multicast table is looked up with (RCTL.MO is 0). */
export function multicastHash(mac: Uint8Array): number {
  return ((mac[4]! >> 4) | (mac[5]! << 4)) & 0xfff;
}

/** Asks for frames to these group addresses: two hashes a word. */
export function multicastMessage(groups: readonly Uint8Array[]): number[] {
  const words = [firstWord(MESSAGE.setMulticast, groups.length)];
  groups.forEach((group, at) => {
    const word = 1 + (at >> 1);
    words[word] = ((words[word] ?? 0) | (multicastHash(group) << (16 * (at & 1)))) >>> 0;
  });
  return words;
}

/** The hashes that a message asks for; as many as there can be, whatever it says. */
export function multicastHashes(words: readonly number[]): number[] {
  const count = Math.min(messageInfo(words[0]!), MOST_HASHES);
  return Array.from({ length: count }, (_, at) => (words[1 + (at >> 1)]! >>> (16 * (at & 1))) & 0xfff);
}

/** A MAC address that a function may have: not of a group, and not 0. */
export function isUnicast(mac: Uint8Array): boolean {
  return mac.length === 6 && (mac[0]! & 1) === 0 && mac.some((byte) => byte !== 0);
}

/** A MAC address of nobody's: locally administered. */
export function madeUpMac(): Uint8Array<ArrayBuffer> {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  mac[0] = (mac[0]! & 0xfc) | 2;
  return mac;
}

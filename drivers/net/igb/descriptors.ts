/**
 * Advanced descriptors of the 82576: four words each, in DMA memory, as the PF's and the VFs' queues have them (datasheet 7.1.5, 7.2.2).
 *
 * Words are little-endian, which is the order of every processor that this runs on.
 *
 * @module
 */

/** Bytes of a descriptor. */
export const DESCRIPTOR_BYTES = 16;
/** Words of it. */
export const DESCRIPTOR_WORDS = 4;
/** Word of a written-back receive descriptor with its status and errors. */
export const RX_STATUS_WORD = 2;
/** Word of a written-back receive descriptor whose low half is the length. */
export const RX_LENGTH_WORD = 3;
/** Word of a written-back transmit descriptor with its status. */
export const TX_STATUS_WORD = 3;
/** In either status: the device is done with it. */
export const DONE = 1 << 0;
/** In a receive status: the last one of its frame. */
export const END_OF_PACKET = 1 << 1;
/** In a receive status: the frame was damaged on the wire (RXE). */
export const RECEIVE_ERROR = 1 << 31;

const COMMAND = { END_OF_PACKET: 1 << 24, INSERT_FCS: 1 << 25, REPORT_STATUS: 1 << 27, ADVANCED: 1 << 29 };
const DATA_DESCRIPTOR = 3 << 20;
/** What all frames in one buffer have in common. */
const WHOLE_FRAME = DATA_DESCRIPTOR | COMMAND.END_OF_PACKET | COMMAND.INSERT_FCS | COMMAND.ADVANCED;
const PAYLOAD_LENGTH_SHIFT = 14;

/** Gives the device a buffer to receive into. The last word is written last, and is where DD was before. */
export function writeReceive(words: Uint32Array, descriptor: number, iovaLo: number, iovaHi: number): void {
  const at = descriptor * DESCRIPTOR_WORDS;
  words[at] = iovaLo;
  words[at + 1] = iovaHi;
  // The header's buffer, which is not used; its lowest bit is what DD is in a written-back one.
  words[at + 2] = 0;
  words[at + 3] = 0;
}

/** Gives the device a frame to send that is in one buffer. @param report it says when it is done with this one and all before it */
export function writeTransmit(
  words: Uint32Array,
  descriptor: number,
  iovaLo: number,
  iovaHi: number,
  lengthBytes: number,
  report: boolean,
): void {
  const at = descriptor * DESCRIPTOR_WORDS;
  words[at] = iovaLo;
  words[at + 1] = iovaHi;
  words[at + 2] = WHOLE_FRAME | (report ? COMMAND.REPORT_STATUS : 0) | lengthBytes;
  words[at + 3] = lengthBytes << PAYLOAD_LENGTH_SHIFT;
}

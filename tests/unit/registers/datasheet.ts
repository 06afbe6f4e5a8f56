/** A table with something of everything that a datasheet has. */
import { registerTable } from "../../../lib/registers/mod.ts";

export const NIC = registerTable({
  CTRL: {
    offset: 0x00,
    width: 4,
    access: "RW",
    reset: 0x8000_0100,
    fields: {
      FD: { bits: 0, access: "RW" },
      SPEED: { bits: [9, 8], access: "RW", values: { "10": 0, "100": 1, "1000": 2 } },
      RST: { bits: 26, access: "SC" },
      DONE: { bits: 30, access: "RW1C" },
      PHY: { bits: 31, access: "RW" },
    },
  },
  ICR: {
    offset: 0xc0,
    width: 4,
    access: "RC/W1C",
    fields: { TXDW: { bits: 0, access: "RC/W1C" }, LSC: { bits: 2, access: "RC/W1C" } },
  },
  ICS: { offset: 0xc8, width: 4, access: "W" },
  GPRC: { offset: 0x74, width: 4, access: "RC" },
  GORC: { offset: 0x88, width: 8, access: "RC", fields: { octets: { bits: [35, 0], access: "RC" } } },
  STAMP: {
    offset: 0x98,
    width: 8,
    access: "R",
    oneAccess: true,
    fields: { valid: { bits: 63, access: "RO" } },
  },
  TDBAL: { offset: 0x100, width: 4, access: "RW", strideBytes: 0x40, count: 4 },
  TDLEN: { offset: 0x108, width: 4, access: "RW", strideBytes: 0x40, count: 4, reset: 0 },
});

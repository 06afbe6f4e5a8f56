/**
 * Registers of the Intel 82576's virtual functions, in BAR 0 (datasheet 8.26).
 *
 * @module
 */
import type { RegisterTable } from "../../../lib/registers/declaration.ts";
import { DCTL_FIELDS, SRRCTL_FIELDS } from "./queue_fields.ts";

/** What this driver uses of them. */
export const IGBVF_REGISTERS = {
  CTRL: { offset: 0x0000, width: 4, fields: { RST: { bits: 26, access: "SC" } } },
  STATUS: {
    offset: 0x0008,
    width: 4,
    access: "R",
    fields: {
      FD: { bits: 0, access: "RO" },
      LU: { bits: 1, access: "RO" },
      SPEED: { bits: [7, 6], access: "RO", values: { "10": 0, "100": 1, "1000": 2 } },
    },
  },
  // The mailbox (8.14); reading clears three of its bits.
  VMBMEM: { offset: 0x0800, width: 4, strideBytes: 4, count: 16 },
  V2PMAILBOX: {
    offset: 0x0c40,
    width: 4,
    access: "RC/W1C",
    fields: {
      REQ: { bits: 0, access: "RWZ" },
      ACK: { bits: 1, access: "RWZ" },
      VFU: { bits: 2, access: "RW" },
      PFU: { bits: 3, access: "RO" },
      PFSTS: { bits: 4, access: "RO" },
      PFACK: { bits: 5, access: "RO" },
      RSTI: { bits: 6, access: "RO" },
      RSTD: { bits: 7, access: "RO" },
    },
  },
  // Statistics: they run on, and over.
  VFGPRC: { offset: 0x0f10, width: 4, access: "R" },
  VFGPTC: { offset: 0x0f14, width: 4, access: "R" },
  VFGORC: { offset: 0x0f18, width: 4, access: "R" },
  VFGOTC: { offset: 0x0f34, width: 4, access: "R" },
  VFMPRC: { offset: 0x0f3c, width: 4, access: "R" },
  // Interrupts: three vectors.
  EIMS: { offset: 0x1524, width: 4 },
  EIMC: { offset: 0x1528, width: 4, access: "W" },
  EIAC: { offset: 0x152c, width: 4 },
  EICR: { offset: 0x1580, width: 4, access: "RC/W1C" },
  EITR: { offset: 0x1680, width: 4, strideBytes: 4, count: 3 },
  IVAR: { offset: 0x1700, width: 4 },
  IVAR_MISC: { offset: 0x1740, width: 4 },
  // Queues.
  RDBAL: { offset: 0x2800, width: 4, strideBytes: 0x100, count: 2 },
  RDBAH: { offset: 0x2804, width: 4, strideBytes: 0x100, count: 2 },
  RDLEN: { offset: 0x2808, width: 4, strideBytes: 0x100, count: 2 },
  SRRCTL: {
    offset: 0x280c,
    width: 4,
    strideBytes: 0x100,
    count: 2,
    fields: SRRCTL_FIELDS,
  },
  RDH: { offset: 0x2810, width: 4, strideBytes: 0x100, count: 2 },
  RDT: { offset: 0x2818, width: 4, strideBytes: 0x100, count: 2 },
  RXDCTL: {
    offset: 0x2828,
    width: 4,
    strideBytes: 0x100,
    count: 2,
    fields: DCTL_FIELDS,
  },
  TDBAL: { offset: 0x3800, width: 4, strideBytes: 0x100, count: 2 },
  TDBAH: { offset: 0x3804, width: 4, strideBytes: 0x100, count: 2 },
  TDLEN: { offset: 0x3808, width: 4, strideBytes: 0x100, count: 2 },
  TDH: { offset: 0x3810, width: 4, strideBytes: 0x100, count: 2 },
  TDT: { offset: 0x3818, width: 4, strideBytes: 0x100, count: 2 },
  TXDCTL: {
    offset: 0x3828,
    width: 4,
    strideBytes: 0x100,
    count: 2,
    fields: DCTL_FIELDS,
  },
} as const satisfies RegisterTable;

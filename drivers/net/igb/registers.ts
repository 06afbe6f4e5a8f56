/**
 * Registers of the Intel 82576's physical function, in BAR 0. Numbers in comments are sections of its datasheet.
 *
 * @module
 */
import type { RegisterTable } from "../../../lib/registers/declaration.ts";
import { DCTL_FIELDS, SRRCTL_FIELDS } from "./queue_fields.ts";

/** What this driver uses of them. */
export const IGB_REGISTERS = {
  // 8.2: the device.
  CTRL: {
    offset: 0x0000,
    width: 4,
    fields: {
      FD: { bits: 0, access: "RW" },
      GIO_MASTER_DISABLE: { bits: 2, access: "RW" },
      SLU: { bits: 6, access: "RW" },
      SPEED: { bits: [9, 8], access: "RW", values: { "10": 0, "100": 1, "1000": 2 } },
      FRCSPD: { bits: 11, access: "RW" },
      FRCDPLX: { bits: 12, access: "RW" },
      RST: { bits: 26, access: "SC" },
      VME: { bits: 30, access: "RW" },
      PHY_RST: { bits: 31, access: "RW" },
    },
  },
  STATUS: {
    offset: 0x0008,
    width: 4,
    access: "R",
    fields: {
      FD: { bits: 0, access: "RO" },
      LU: { bits: 1, access: "RO" },
      LAN_ID: { bits: [3, 2], access: "RO" },
      SPEED: { bits: [7, 6], access: "RO", values: { "10": 0, "100": 1, "1000": 2 } },
      PHYRA: { bits: 10, access: "RO" },
      NUM_VFS: { bits: [17, 14], access: "RO" },
      IOV_MODE: { bits: 18, access: "RO" },
      GIO_MASTER_ENABLE: { bits: 19, access: "RO" },
    },
  },
  CTRL_EXT: {
    offset: 0x0018,
    width: 4,
    fields: { PFRSTD: { bits: 14, access: "RW" }, EXTENDED_VLAN: { bits: 26, access: "RW" } },
  },
  MDIC: {
    offset: 0x0020,
    width: 4,
    fields: {
      DATA: { bits: [15, 0], access: "RW" },
      REGADD: { bits: [20, 16], access: "RW" },
      PHYADD: { bits: [25, 21], access: "RW" },
      OP: { bits: [27, 26], access: "RW", values: { write: 1, read: 2 } },
      READY: { bits: 28, access: "RW" },
      INT: { bits: 29, access: "RW" },
      ERROR: { bits: 30, access: "RW" },
    },
  },
  // 8.7: who may use the PHY, this driver or firmware.
  SWSM: {
    offset: 0x5b50,
    width: 4,
    // Reading sets SMBI, and so takes the semaphore: no dump may.
    access: "RC/W1C",
    fields: { SMBI: { bits: 0, access: "RW" }, SWESMBI: { bits: 1, access: "RW" } },
  },
  SW_FW_SYNC: {
    offset: 0x5b5c,
    width: 4,
    fields: { SW_PHY: { bits: [2, 1], access: "RW" }, FW_PHY: { bits: [18, 17], access: "RO" } },
  },
  // 8.8: interrupts. The first three are at 0x1500, too, where QEMU has nothing.
  ICR: { offset: 0x00c0, width: 4, access: "RC/W1C" },
  IMS: { offset: 0x00d0, width: 4 },
  IMC: { offset: 0x00d8, width: 4, access: "W" },
  GPIE: {
    offset: 0x1514,
    width: 4,
    fields: {
      NSICR: { bits: 0, access: "RW" },
      MULTIPLE_MSIX: { bits: 4, access: "RW" },
      EIAME: { bits: 30, access: "RW" },
      PBA_SUPPORT: { bits: 31, access: "RW" },
    },
  },
  EIMS: { offset: 0x1524, width: 4 },
  EIMC: { offset: 0x1528, width: 4, access: "W" },
  EIAC: { offset: 0x152c, width: 4 },
  EICR: { offset: 0x1580, width: 4, access: "RC/W1C" },
  EITR: { offset: 0x1680, width: 4, strideBytes: 4, count: 25 },
  IVAR: { offset: 0x1700, width: 4, strideBytes: 4, count: 8 },
  IVAR_MISC: { offset: 0x1740, width: 4 },
  // 8.10: receiving.
  RCTL: {
    offset: 0x0100,
    width: 4,
    fields: {
      RXEN: { bits: 1, access: "RW" },
      SBP: { bits: 2, access: "RW" },
      UPE: { bits: 3, access: "RW" },
      MPE: { bits: 4, access: "RW" },
      LPE: { bits: 5, access: "RW" },
      BAM: { bits: 15, access: "RW" },
      VFE: { bits: 18, access: "RW" },
      SECRC: { bits: 26, access: "RW" },
    },
  },
  RDBAL: { offset: 0xc000, width: 4, strideBytes: 0x40, count: 16 },
  RDBAH: { offset: 0xc004, width: 4, strideBytes: 0x40, count: 16 },
  RDLEN: { offset: 0xc008, width: 4, strideBytes: 0x40, count: 16 },
  SRRCTL: {
    offset: 0xc00c,
    width: 4,
    strideBytes: 0x40,
    count: 16,
    fields: SRRCTL_FIELDS,
  },
  RDH: { offset: 0xc010, width: 4, strideBytes: 0x40, count: 16 },
  RDT: { offset: 0xc018, width: 4, strideBytes: 0x40, count: 16 },
  RXDCTL: {
    offset: 0xc028,
    width: 4,
    strideBytes: 0x40,
    count: 16,
    fields: DCTL_FIELDS,
  },
  RXCSUM: { offset: 0x5000, width: 4, fields: { PCSD: { bits: 13, access: "RW" } } },
  RLPML: { offset: 0x5004, width: 4, fields: { LENGTH: { bits: [13, 0], access: "RW" } } },
  MTA: { offset: 0x5200, width: 4, strideBytes: 4, count: 128 },
  RAL: { offset: 0x5400, width: 4, strideBytes: 8, count: 16 },
  RAH: {
    offset: 0x5404,
    width: 4,
    strideBytes: 8,
    count: 16,
    fields: {
      ADDRESS: { bits: [15, 0], access: "RW" },
      POOLSEL: { bits: [25, 18], access: "RW" },
      AV: { bits: 31, access: "RW" },
    },
  },
  VFTA: { offset: 0x5600, width: 4, strideBytes: 4, count: 128 },
  MRQC: {
    offset: 0x5818,
    width: 4,
    fields: {
      ENABLE: { bits: [2, 0], access: "RW", values: { none: 0, rss: 2, vmdq: 3 } },
      TCP_IPV4: { bits: 16, access: "RW" },
      IPV4: { bits: 17, access: "RW" },
      IPV6: { bits: 20, access: "RW" },
      UDP_IPV4: { bits: 22, access: "RW" },
    },
  },
  RETA: { offset: 0x5c00, width: 4, strideBytes: 4, count: 32 },
  RSSRK: { offset: 0x5c80, width: 4, strideBytes: 4, count: 10 },
  // 8.12: sending.
  TCTL: {
    offset: 0x0400,
    width: 4,
    fields: { EN: { bits: 1, access: "RW" }, PSP: { bits: 3, access: "RW" } },
  },
  TDBAL: { offset: 0xe000, width: 4, strideBytes: 0x40, count: 16 },
  TDBAH: { offset: 0xe004, width: 4, strideBytes: 0x40, count: 16 },
  TDLEN: { offset: 0xe008, width: 4, strideBytes: 0x40, count: 16 },
  TDH: { offset: 0xe010, width: 4, strideBytes: 0x40, count: 16 },
  TDT: { offset: 0xe018, width: 4, strideBytes: 0x40, count: 16 },
  TXDCTL: {
    offset: 0xe028,
    width: 4,
    strideBytes: 0x40,
    count: 16,
    fields: DCTL_FIELDS,
  },
  // 8.14: VFs, their mailboxes and the switch between them.
  VMBMEM: { offset: 0x0800, width: 4, strideBytes: 4, count: 128 },
  P2VMAILBOX: {
    offset: 0x0c00,
    width: 4,
    strideBytes: 4,
    count: 8,
    fields: {
      STS: { bits: 0, access: "RWZ" },
      ACK: { bits: 1, access: "RWZ" },
      VFU: { bits: 2, access: "RO" },
      PFU: { bits: 3, access: "RW" },
      RVFU: { bits: 4, access: "RWZ" },
    },
  },
  MBVFICR: {
    offset: 0x0c80,
    width: 4,
    access: "W1C",
    fields: { VFREQ: { bits: [7, 0], access: "RW1C" }, VFACK: { bits: [23, 16], access: "RW1C" } },
  },
  MBVFIMR: { offset: 0x0c84, width: 4 },
  VFLRE: { offset: 0x0c88, width: 4, access: "W1C" },
  VFRE: { offset: 0x0c8c, width: 4 },
  VFTE: { offset: 0x0c90, width: 4 },
  QDE: { offset: 0x2408, width: 4 },
  DTXSWC: { offset: 0x3500, width: 4, fields: { LOOPBACK_EN: { bits: 31, access: "RW" } } },
  VT_CTL: {
    offset: 0x581c,
    width: 4,
    fields: {
      DEF_PL: { bits: [9, 7], access: "RW" },
      DIS_DEF_PL: { bits: 29, access: "RW" },
      RPL_EN: { bits: 30, access: "RW" },
    },
  },
  VMOLR: {
    offset: 0x5ad0,
    width: 4,
    strideBytes: 4,
    count: 8,
    fields: {
      RLPML: { bits: [13, 0], access: "RW" },
      LPE: { bits: 16, access: "RW" },
      AUPE: { bits: 24, access: "RW" },
      ROMPE: { bits: 25, access: "RW" },
      ROPE: { bits: 26, access: "RW" },
      BAM: { bits: 27, access: "RW" },
      MPE: { bits: 28, access: "RW" },
      STRVLAN: { bits: 30, access: "RW" },
      STRCRC: { bits: 31, access: "RW" },
    },
  },
  RPLOLR: { offset: 0x5af0, width: 4, fields: { STRCRC: { bits: 31, access: "RW" } } },
  VLVF: {
    offset: 0x5d00,
    width: 4,
    strideBytes: 4,
    count: 32,
    fields: {
      VLANID: { bits: [11, 0], access: "RW" },
      POOLSEL: { bits: [19, 12], access: "RW" },
      ENABLE: { bits: 31, access: "RW" },
    },
  },
  // 8.19: statistics, all cleared by reading.
  CRCERRS: { offset: 0x4000, width: 4, access: "RC" },
  MPC: { offset: 0x4010, width: 4, access: "RC" },
  GPRC: { offset: 0x4074, width: 4, access: "RC" },
  BPRC: { offset: 0x4078, width: 4, access: "RC" },
  MPRC: { offset: 0x407c, width: 4, access: "RC" },
  GPTC: { offset: 0x4080, width: 4, access: "RC" },
  GORC: { offset: 0x4088, width: 8, access: "RC" },
  GOTC: { offset: 0x4090, width: 8, access: "RC" },
  RNBC: { offset: 0x40a0, width: 4, access: "RC" },
  ROC: { offset: 0x40ac, width: 4, access: "RC" },
} as const satisfies RegisterTable;

/** Causes in ICR and IMS (8.8.7). */
export const CAUSE = { LSC: 1 << 2, VMMB: 1 << 8 } as const;

// Configuration spaces written by hand, field by field, from the layouts in the standards and in kernel headers.

import type { ConfigSpaceImage, TriggeredBits } from "../../../lib/pci/config_writer.ts";
import { ConfigSpace } from "../../../lib/pci/mod.ts";

/** A configuration space of zeros with hexadecimal bytes at the given offsets. */
export function configFrom(sizeBytes: number, at: Readonly<Record<number, string>>): ConfigSpace {
  const bytes = new Uint8Array(sizeBytes);
  for (const [offset, hex] of Object.entries(at)) {
    bytes.set(Uint8Array.fromHex(hex.replaceAll(/\s/g, "")), Number(offset));
  }
  return new ConfigSpace(bytes);
}

/** The first bytes of a configuration space. */
export function firstBytes({ bytes }: ConfigSpace, sizeBytes: number): ConfigSpace {
  return new ConfigSpace(bytes.subarray(0, sizeBytes));
}

/** An Express function with these bytes besides: it has an extended list. Its Express capability is that of an integrated endpoint, at 0xc4. */
export function expressFrom(at: Readonly<Record<number, string>>): ConfigSpace {
  return configFrom(4096, { 0x00: "8680 3412 0000 1000", 0x34: "c4", 0xc4: "1000 9200", ...at });
}

/** A PF laid out as Intel's 82576 (igb): PM, MSI, MSI-X, Express v2, AER, DSN, ARI, SR-IOV. */
export const IGB: Readonly<Record<number, string>> = {
  0x000: "8680 c910 0604 1000 01 00 00 02 10 00 80 00",
  0x010: "0000f2fb 0000f0fb 01e00000 0c00f4fb 02000000",
  0x02c: "8680 3ca0",
  0x034: "40",
  0x03c: "0a 01 00 00",
  // PM: version 3, DSI, PME from D0, D3hot, D3cold; D0, DScale 1.
  0x040: "01 50 23c8 0020 0000",
  // MSI: 64-bit, maskable, 1 vector.
  0x050: "05 70 8001 00000000 00000000 0000 0000 00000000 00000000",
  // MSI-X: 10 vectors, enabled, table BAR 3 offset 0, PBA BAR 3 offset 0x2000.
  0x070: "11 a0 0980 03000000 03200000",
  // Express v2 endpoint: 512-byte payload, FLR, 2.5 GT/s x4.
  0x0a0: "10 00 0200 c28c0010 3728 0900 41 6c 43 00 4000 4110",
  0x0c4: "1f000000 0000 0000 00000000 0100 0000",
  // AER v1.
  0x100: "01 00 01 14 00000000 00000000 11202600 00000000 00200000 a0000000",
  // Device serial number 00-1b-21-ff-ff-12-34-56.
  0x140: "03 00 01 15 563412ff ff211b00",
  // ARI: next function 1.
  0x150: "0e 00 01 16 0001 0000",
  // SR-IOV: 8 VFs, offset 128, stride 2, device 10ca, two enabled with memory.
  0x160: "10 00 01 00 00000000 0900 0000 0800 0800 0200 0000 8000 0200 0000 ca10 53050000 01000000",
  0x184: "0c00c0fb 02000000 00000000 0c00c2fb 02000000",
};

/** A software write of 1, 2 or 4 bytes given as a number. @returns what it triggered */
export function writeValue(
  image: ConfigSpaceImage,
  offset: number,
  bytes: 1 | 2 | 4,
  value: number,
): TriggeredBits[] {
  return image.write(offset, Uint8Array.from({ length: bytes }, (_, i) => (value >>> (8 * i)) & 0xff));
}

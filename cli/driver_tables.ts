/**
 * Functions that have a driver here which is not virtio's, by vendor and device, and the tables of their registers.
 *
 * @module
 */
import { IGB_REGISTERS } from "../drivers/net/igb/registers.ts";
import { IGBVF_REGISTERS } from "../drivers/net/igb/vf_registers.ts";
import type { RegisterTable } from "../lib/registers/declaration.ts";
import type { RegisterSet } from "../lib/virtio/function_registers.ts";

/** Such a driver. Its table is called the same. */
export type OwnDriver = "igb" | "igbvf";

interface Ids {
  readonly vendorId: number;
  readonly deviceId: number;
}

const INTEL = 0x8086;
const DRIVERS: Readonly<Record<number, OwnDriver>> = { 0x10c9: "igb", 0x10ca: "igbvf" };
const TABLES: Readonly<Record<OwnDriver, RegisterTable>> = { igb: IGB_REGISTERS, igbvf: IGBVF_REGISTERS };

/** The driver of a function; undefined: it is virtio's, or nobody's. */
export function ownDriver({ vendorId, deviceId }: Ids): OwnDriver | undefined {
  return vendorId === INTEL ? DRIVERS[deviceId] : undefined;
}

/** The registers that the function's driver knows, in BAR 0. @param lengthBytes of that */
export function driverSets(ids: Ids, lengthBytes = Infinity): RegisterSet[] {
  const name = ownDriver(ids);
  return name === undefined ? [] : [{ name, region: 0, offset: 0, lengthBytes, table: TABLES[name] }];
}

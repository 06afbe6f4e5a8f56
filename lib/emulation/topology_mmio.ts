/**
 * What a topology says of a platform device: a virtio-mmio device.
 *
 * @module
 */
import * as v from "valibot";
import { busOf, isAddress, PLATFORM } from "../vfio/bus.ts";
import { MMIO_FORMS, type MmioTopology, PLATFORM_KERNEL_DRIVERS } from "./function_topology.ts";
import type { FunctionPlace } from "./topology_kind.ts";
import {
  type FieldSchema,
  type FieldSchemas,
  fits,
  flag,
  not,
  oneOf,
  record,
  TopologyError,
  whole,
} from "./topology_fields.ts";

/** Most vectors: MSI-X has as many. */
const VECTORS_MAX = 2048;

/** Which fields belong to which forms. */
const OF_FORMS: Readonly<Record<Exclude<keyof MmioTopology, "form">, readonly MmioTopology["form"][]>> = {
  vectors: ["v3", "msi-v2"],
  notify: ["v3", "msi-v2"],
  sharing: ["msi-v2"],
  stateBits: ["msi-v2"],
};

const NOTIFY = record(
  { base: whole(0, 0xffff), multiplier: v.optional(whole(0, 0xffff), 0) },
  "is not a field of a place for doorbells\nthere are base, multiplier",
);

const MMIO = record(
  {
    form: v.optional(oneOf(MMIO_FORMS, "a form of virtio-mmio"), "modern"),
    vectors: v.optional(whole(1, VECTORS_MAX)),
    notify: v.optional(NOTIFY),
    sharing: v.optional(flag),
    stateBits: v.optional(oneOf(["draft", "linux"], "where MsiState can have its bits")),
  },
  `is not a field of a virtio-mmio device\nthere are form, ${Object.keys(OF_FORMS).join(", ")}`,
) as unknown as FieldSchema<MmioTopology>;

/** Fields of a platform device, beside those that a function of any bus has. */
export const MMIO_FIELDS: FieldSchemas = {
  address: fits(isPlatformName, not("the name of a platform device", 'write it as "a003e00.virtio_mmio"')),
  driver: v.optional(
    v.nullable(oneOf(PLATFORM_KERNEL_DRIVERS, "a platform driver of the emulated kernel", "null")),
    "virtio-mmio",
  ),
  mmio: v.optional(MMIO, { form: "modern" } as never),
};

/** The text is a platform device's name. */
export function isPlatformName(value: unknown): boolean {
  return typeof value === "string" && isAddress(value) && busOf(value) === PLATFORM;
}

/** Checks that the fields of a device belong to its form. @throws TopologyError */
export function checkMmio(mmio: MmioTopology, { at }: FunctionPlace): void {
  for (const [field, forms] of Object.entries(OF_FORMS) as [keyof typeof OF_FORMS, readonly string[]][]) {
    if (mmio[field] === undefined || forms.includes(mmio.form)) continue;
    throw new TopologyError(
      `${at}.mmio.${field}`,
      `a device of form ${mmio.form} has none`,
      `only ${forms.join(" and ")} have`,
    );
  }
}

/**
 * Which register a command line means: a place (`0:0x14.8`), a name (`common:queue_size`, `command`), or a name of `setpci` (`CAP_EXP+8.w`).
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";
import type { RegisterDeclaration } from "../lib/registers/declaration.ts";
import type { RegisterSet } from "../lib/virtio/function_registers.ts";

/** A place that is meant. */
export interface MeantRegister {
  /** As it is told: `common:queue_size`, `0:0x14`. */
  readonly name: string;
  /** Configuration space, or a BAR by its number. */
  readonly region: "config" | number;
  /** Bytes from the region's start. */
  readonly offset: number;
  /** Bytes. */
  readonly width: 1 | 2 | 4 | 8;
  /** The set that it is of, where it has a name. */
  readonly known?: {
    readonly set: RegisterSet;
    readonly register: string;
    readonly index: number;
    readonly declared: RegisterDeclaration;
  };
}

const WIDTHS: Readonly<Record<string, 1 | 2 | 4 | 8>> = {
  "8": 1,
  "16": 2,
  "32": 4,
  "64": 8,
  b: 1,
  w: 2,
  l: 4,
  q: 8,
};

/** Names of `setpci` that are not those of the header: offset and bytes. */
const SETPCI: Readonly<Record<string, readonly [offset: number, width: 1 | 2 | 4]>> = {
  revision: [0x08, 1],
  classprog: [0x09, 1],
  classdevice: [0x0a, 2],
  baseaddress0: [0x10, 4],
  baseaddress1: [0x14, 4],
  baseaddress2: [0x18, 4],
  baseaddress3: [0x1c, 4],
  baseaddress4: [0x20, 4],
  baseaddress5: [0x24, 4],
  romaddress: [0x30, 4],
  mingnt: [0x3e, 1],
  maxlat: [0x3f, 1],
};

/** Capabilities by the names that `setpci` has for them. */
const SETPCI_CAPABILITIES: Readonly<Record<string, string>> = {
  cap_pm: "power-management",
  cap_vpd: "vital-product-data",
  cap_msi: "msi",
  cap_vndr: "vendor-specific",
  cap_ssvid: "subsystem-id",
  cap_exp: "express",
  cap_msix: "msi-x",
  cap_sata: "sata",
  cap_af: "advanced-features",
  cap_ea: "enhanced-allocation",
  ecap_aer: "advanced-error-reporting",
  ecap_vc: "virtual-channel",
  ecap_dsn: "device-serial-number",
  ecap_vndr: "extended-vendor-specific",
  ecap_acs: "access-control",
  ecap_ari: "alternative-routing-id",
  ecap_ats: "address-translation",
  ecap_sriov: "sr-iov",
  ecap_pri: "page-request",
  ecap_rebar: "resizable-bar",
  ecap_tph: "tph-requester",
  ecap_ltr: "latency-tolerance",
  ecap_secpci: "secondary-express",
  ecap_pasid: "pasid",
  ecap_dpc: "downstream-port-containment",
  ecap_l1pm: "l1-substates",
  ecap_ptm: "precision-time-measurement",
};

const PLACE = /^(?:([^:]+):)?(0x[0-9a-f]+|\d+)(?:\.(8|16|32|64|[bwlq]))?$/i;
const SETPCI_PLACE = /^(e?cap_[a-z0-9]+)(?:\+(?:0x)?([0-9a-f]+))?(?:\.([bwl]))?$/i;
const NAME = /^(?:([^:]+):)?([A-Za-z_][\w.-]*)(?:\[(\d{1,7})\])?$/;

/** @throws UsageError for what is no place, and what the function does not have */
export function meantRegister(text: string, sets: readonly RegisterSet[]): MeantRegister {
  const setpci = SETPCI_PLACE.exec(text);
  if (setpci !== null) {
    const [, capability = "", offset = "0", width = "l"] = setpci;
    const kind = SETPCI_CAPABILITIES[capability.toLowerCase()];
    if (kind === undefined) throw noSuch(text, Object.keys(SETPCI_CAPABILITIES));
    return placeIn(setOf(kind, sets), parseInt(offset, 16), WIDTHS[width.toLowerCase()]!);
  }
  const place = PLACE.exec(text);
  if (place !== null) {
    const [, where = "config", offset, width = "32"] = place;
    const bytes = WIDTHS[width.toLowerCase()]!;
    const bar = /^(?:bar)?([0-5])$/i.exec(where)?.[1];
    if (bar === undefined && where !== "config") return placeIn(setOf(where, sets), Number(offset), bytes);
    return placed(bar === undefined ? "config" : Number(bar), Number(offset), bytes);
  }
  const named = NAME.exec(text);
  if (named === null) {
    throw new UsageError(`${JSON.stringify(text)} is no register`, {
      hint: "BAR:OFFSET[.WIDTH] as 0:0x14.8, config:0x04.16, or a name as common:queue_size",
    });
  }
  const [, where, name = "", index = "0"] = named;
  const among = where === undefined ? sets : [setOf(where, sets)];
  const found = among.flatMap((set) =>
    Object.keys(set.table).filter((one) => plain(one) === plain(name)).map((register) => ({ set, register }))
  );
  if (found.length === 0) {
    const known = where === undefined || where === "config" ? SETPCI[plain(name)] : undefined;
    if (known !== undefined) return placed("config", known[0], known[1]);
    throw noSuch(
      text,
      among.length === 1 ? Object.keys(among[0]!.table) : sets.map((set) => `${set.name}:…`),
    );
  }
  // A name that is written just so is meant first; then what the header has, as with `setpci`.
  const exact = found.filter(({ register }) => register === name);
  const best = [found, exact].find((some) => some.length === 1)?.[0] ??
    found.find(({ set }) => set.name === "config");
  if (best === undefined) {
    throw new UsageError(`${found.length} registers are called ${name}`, {
      hint: `say which: ${found.map(({ set, register }) => `${set.name}:${register}`).join(", ")}`,
    });
  }
  return namedIn(best.set, best.register, Number(index));
}

function namedIn(set: RegisterSet, register: string, index: number): MeantRegister {
  const declared = set.table[register]!;
  const { offset, width, strideBytes, count = strideBytes === undefined ? 1 : Infinity } = declared;
  const name = `${set.name}:${register}${strideBytes === undefined ? "" : `[${index}]`}`;
  const start = offset + index * (strideBytes ?? 0);
  if (index >= count || start + width > set.lengthBytes) {
    throw new UsageError(`there is no ${set.name}:${register}${index > 0 ? `[${index}]` : ""}`, {
      hint: count === Infinity
        ? `${set.name} has ${set.lengthBytes} bytes here`
        : `there are ${count} of it, in ${set.lengthBytes} bytes`,
    });
  }
  return {
    name,
    region: set.region,
    offset: set.offset + start,
    width,
    known: { set, register, index, declared },
  };
}

function placeIn(set: RegisterSet, offset: number, width: 1 | 2 | 4 | 8): MeantRegister {
  if (offset + width > set.lengthBytes) {
    throw new UsageError(`${set.name} has no ${8 * width} bits at 0x${offset.toString(16)}`, {
      hint: `it has ${set.lengthBytes} bytes`,
    });
  }
  return placed(set.region, set.offset + offset, width);
}

function placed(region: "config" | number, offset: number, width: 1 | 2 | 4 | 8): MeantRegister {
  return { name: `${region}:0x${offset.toString(16)}`, region, offset, width };
}

function setOf(name: string, sets: readonly RegisterSet[]): RegisterSet {
  const found = sets.find((one) => one.name === name.toLowerCase());
  if (found !== undefined) return found;
  throw noSuch(name, ["0 to 5 (a BAR)", ...sets.map((one) => one.name)]);
}

function noSuch(what: string, there: readonly string[]): UsageError {
  return new UsageError(`the function has no ${what}`, { hint: `there is ${there.join(", ")}` });
}

/** `VENDOR_ID` and `vendorId` are one name. */
function plain(name: string): string {
  return name.replace(/[_.-]/g, "").toLowerCase();
}

/**
 * `ringside peek`, `ringside poke` and `ringside regs`
 *
 * @module
 */
import { readText } from "../ffi/mod.ts";
import { UsageError } from "../lib/errors/mod.ts";
import { isVfioDriver } from "../lib/host/changes/driver_binding.ts";
import type { Host } from "../lib/host/mod.ts";
import { isClearedByReading, isReadable } from "../lib/registers/declaration.ts";
import {
  cHeader,
  checkDump,
  diffDumps,
  type DumpedRegister,
  formatDiff,
  parseRegisters,
  type RegisterDump,
  Registers,
} from "../lib/registers/mod.ts";
import { describeValue, matcher } from "../lib/registers/dump.ts";
import { ofFile, readJsonFile } from "./json_file.ts";
import { print, printJson, printTable, remark } from "./output.ts";
import type { Of } from "./parser.ts";
import { LookedFunction } from "./looked_function.ts";
import type { MeantRegister } from "./register_place.ts";
import { valueFor } from "./register_value.ts";

/** Reads registers. */
export function peek(host: Host, options: Of<"peek">): void {
  if (options.places.length === 0) {
    throw new UsageError("peek needs a FUNCTION and at least one WHERE", {
      hint: "such as 0:0x14.8, config:0x04.16 or common:queue_size",
    });
  }
  using looked = new LookedFunction(host, options);
  const meant = options.places.map((text) => looked.meant(text));
  for (const one of meant) requireReadable(one);
  const values = meant.map((one) => shownValue(one, looked.read(one)));
  if (options.json) return printJson({ function: looked.about.address, values });
  for (const { name, known } of meant) {
    if (known !== undefined && isClearedByReading(known.declared)) remark(`${name} is cleared by this read`);
  }
  for (const one of values) print(values.length === 1 ? one.text : `${one.name}  ${one.text}`);
}

/** Writes one register, and says what it did. */
export function poke(host: Host, options: Of<"poke">): void {
  using looked = new LookedFunction(host, options);
  const { address, driver } = looked.about;
  const meant = looked.meant(options.place);
  const after = options.peek.map((text) => looked.meant(text));
  for (const one of after) requireReadable(one);
  const { known, region, offset, width } = meant;
  const write = valueFor(meant, options.value);
  if (driver !== undefined && !isVfioDriver(driver)) {
    throw new UsageError(`${address} is on ${driver}, which drives it`, {
      hint: `ringside bind ${address} gives it to VFIO`,
    });
  }
  looked.open();
  const space = looked.space(region, true);
  // Of a place without a name nobody knows what a read of it does.
  const readable = known !== undefined && isReadable(known.declared) && !isClearedByReading(known.declared);
  const before = readable ? looked.read(meant) : undefined;
  const value = write(before);
  if (!options.dryRun) {
    if (known !== undefined) {
      new Registers(known.set.table, space, known.set).set(known.register, value as never, known.index);
    } else if (width !== 8) space.write(offset, width, Number(value));
    else if (space.write64 !== undefined) space.write64(offset, BigInt(value));
    else {
      space.write(offset, 4, Number(BigInt(value) & 0xffff_ffffn));
      space.write(offset + 4, 4, Number(BigInt(value) >> 32n));
    }
  }
  const reads = readable && !options.dryRun ? looked.read(meant) : undefined;
  const peeked = options.dryRun ? [] : after.map((one) => shownValue(one, looked.read(one)));
  if (options.json) {
    return printJson({
      function: address,
      ...placeJson(meant),
      before: before === undefined ? null : digits(before, width),
      value: digits(value, width),
      reads: reads === undefined ? null : digits(reads, width),
      written: !options.dryRun,
      peeked: peeked.map(({ text: _, ...one }) => one),
    });
  }
  const was = before === undefined ? "" : `${digits(before, width)} -> `;
  const is = reads === undefined ? "" : `, reads ${textOf(meant, reads)}`;
  print(`${address} ${meant.name}: ${was}${digits(value, width)}${is}`);
  for (const one of peeked) print(`${one.name}  ${one.text}`);
  if (options.dryRun) remark("nothing was written");
  else remark(`${address} is closed now, and VFIO resets it where it can: --peek reads before that`);
}

/** Reads and decodes all registers that are known by name. */
export function regs(host: Host, options: Of<"regs">): void {
  if (options.cHeader !== undefined) {
    if (options.table === undefined) {
      throw new UsageError("--c-header is of a table, which --table FILE says");
    }
    const { table, cHeader: prefix } = options;
    const header = ofFile(table, () => cHeader(parseRegisters(readText(table)), prefix));
    if (options.json) printJson({ header });
    else print(header.trimEnd());
    return;
  }
  const before = options.diff === undefined ? undefined : readJsonFile(options.diff, checkDump);
  using looked = new LookedFunction(host, options);
  const { address, bus, driver } = looked.about;
  if (looked.sets.length === 0) {
    throw new UsageError(`no registers of ${address} are known by name`, {
      hint: bus === "platform"
        ? "it is no virtio-mmio device: --table FILE says them"
        : "--table FILE says them",
    });
  }
  const onVfio = driver !== undefined && isVfioDriver(driver);
  const wanted = matcher(options.pattern);
  const registers: DumpedRegister[] = [];
  let clearingReads = 0;
  for (const set of looked.sets) {
    if (set.region !== "config" && set.name !== "table" && !onVfio) {
      remark(`${set.name} is in BAR ${set.region}, which can be read when ${address} is on VFIO`);
      continue;
    }
    const dump = looked.registers(set).dump({
      readToClear: options.readToClear,
      only: (name) => wanted(`${set.name}:${name}`),
    });
    for (const one of dump.registers) registers.push({ ...one, name: `${set.name}:${one.name}` });
    clearingReads += dump.clearingReads;
  }
  const dump: RegisterDump = { registers, clearingReads };
  if (before !== undefined) {
    const changes = diffDumps(before, dump);
    if (options.json) return printJson({ function: address, changes });
    print(changes.length === 0 ? "no difference" : formatDiff(changes).trimEnd());
    return;
  }
  if (options.json) return printJson({ function: address, ...dump });
  if (registers.length === 0) {
    print("no registers match");
    return;
  }
  printTable(
    ["REGISTER", "OFFSET", "VALUE", "FIELDS"],
    registers.map(({ name, offset, value, lack, fields }) => [
      name,
      `0x${offset.toString(16)}`,
      value ?? `(${lack})`,
      setFields(fields),
    ]),
    { drop: [1, 3], shrink: [3] },
  );
}

/** Bits that are set, by name, and what is more than a bit: most bits are 0. */
function setFields(fields: DumpedRegister["fields"] = {}): string {
  const shown = Object.entries(fields).filter(([, value]) => value !== false);
  return shown.map(([name, value]) => value === true ? name : `${name} ${value}`).join(", ");
}

function requireReadable({ name, known }: MeantRegister): void {
  if (known === undefined || isReadable(known.declared)) return;
  throw new UsageError(`${name} cannot be read`, { hint: "it is write-only" });
}

function shownValue(meant: MeantRegister, raw: number | bigint) {
  return { ...placeJson(meant), value: digits(raw, meant.width), text: textOf(meant, raw) };
}

function textOf({ known, width }: MeantRegister, raw: number | bigint): string {
  return known === undefined ? digits(raw, width) : describeValue(known.declared, raw);
}

function placeJson({ name, region, offset, width }: MeantRegister) {
  return { name, region, offset, width };
}

function digits(value: number | bigint, width: number): string {
  return `0x${value.toString(16).padStart(2 * width, "0")}`;
}

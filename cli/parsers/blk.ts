/**
 * What the `blk` commands accept.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { command, constant, option } from "@optique/core/primitives";
import { ABOUT } from "./about.ts";
import {
  drivenArgument,
  driving,
  dryRun,
  noCommand,
  numberArgument,
  opening,
  rawOutput,
  textArgument,
} from "./shared.ts";

const firstSector = numberArgument("SECTOR", { min: 0 }, message`First sector, of 512 bytes.`);
const sectorCount = numberArgument("COUNT", { min: 1 }, message`Sectors.`);

const commands = or(
  command(
    "info",
    object({ command: constant("blk info"), function: drivenArgument }),
    { description: message`Size, limits, cache, id and features.` },
  ),
  command(
    "id",
    object({ command: constant("blk id"), function: drivenArgument }),
    { description: message`Print the device's id.` },
  ),
  command(
    "read",
    object({
      command: constant("blk read"),
      function: drivenArgument,
      sector: firstSector,
      count: sectorCount,
      output: rawOutput,
    }),
    { description: message`Read sectors.` },
  ),
  command(
    "write",
    object({
      command: constant("blk write"),
      function: drivenArgument,
      sector: firstSector,
      file: textArgument("FILE", message`Whole sectors to write; - is standard input.`),
      dryRun,
    }),
    { description: message`Write a file to sectors, and flush.` },
  ),
  command(
    "flush",
    object({ command: constant("blk flush"), function: drivenArgument }),
    { description: message`Put what is in the device's write cache on the disk.` },
  ),
  command(
    "discard",
    object({
      command: constant("blk discard"),
      function: drivenArgument,
      sector: firstSector,
      count: sectorCount,
      dryRun,
    }),
    { description: message`Give sectors back; what they then read as is not known.` },
  ),
  command(
    "zero",
    object({
      command: constant("blk zero"),
      function: drivenArgument,
      sector: firstSector,
      count: sectorCount,
      dryRun,
      unmap: option("--unmap", { description: message`The device may give the sectors back.` }),
    }),
    { description: message`Make sectors read as zero, and flush.` },
  ),
  { errors: noCommand },
);

/** `blk …` */
export const blk = command("blk", merge(commands, driving, opening), ABOUT.blk);

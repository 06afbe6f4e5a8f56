/**
 * What the `blk` commands accept.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { optional } from "@optique/core/modifiers";
import { argument, command, constant, option } from "@optique/core/primitives";
import { integer, string } from "@optique/core/valueparser";
import { driving, functionArgument, noCommand, opening } from "./shared.ts";

const firstSector = argument(integer({ min: 0, metavar: "SECTOR" }), {
  description: message`First sector, of 512 bytes.`,
});
const sectorCount = argument(integer({ min: 1, metavar: "COUNT" }), { description: message`Sectors.` });

const commands = or(
  command(
    "info",
    object({ command: constant("blk info"), function: functionArgument }),
    { description: message`Size, limits, cache, id and features.` },
  ),
  command(
    "id",
    object({ command: constant("blk id"), function: functionArgument }),
    { description: message`Print the device's id.` },
  ),
  command(
    "read",
    object({
      command: constant("blk read"),
      function: functionArgument,
      sector: firstSector,
      count: sectorCount,
      output: optional(option("-o", "--output", string({ metavar: "FILE" }), {
        description: message`Write raw bytes to a file (- is standard output) instead of hexadecimal.`,
      })),
    }),
    { description: message`Read sectors.` },
  ),
  command(
    "write",
    object({
      command: constant("blk write"),
      function: functionArgument,
      sector: firstSector,
      file: argument(string({ metavar: "FILE" }), {
        description: message`Whole sectors to write; - is standard input.`,
      }),
    }),
    { description: message`Write a file to sectors, and flush.` },
  ),
  command(
    "flush",
    object({ command: constant("blk flush"), function: functionArgument }),
    { description: message`Put what is in the device's write cache on the disk.` },
  ),
  command(
    "discard",
    object({
      command: constant("blk discard"),
      function: functionArgument,
      sector: firstSector,
      count: sectorCount,
    }),
    { description: message`Give sectors back; what they then read as is not known.` },
  ),
  command(
    "zero",
    object({
      command: constant("blk zero"),
      function: functionArgument,
      sector: firstSector,
      count: sectorCount,
      unmap: option("--unmap", { description: message`The device may give the sectors back.` }),
    }),
    { description: message`Make sectors read as zero, and flush.` },
  ),
  { errors: noCommand },
);

/** `blk …` */
export const blk = merge(commands, driving, opening);

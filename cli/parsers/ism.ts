/**
 * What the `ism` commands accept. The function stands before the command: `ism FUNCTION alloc 1M`.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { multiple, optional } from "@optique/core/modifiers";
import { argument, command, constant, option } from "@optique/core/primitives";
import { choice } from "@optique/core/valueparser";
import { parsePermissions, permissionsText } from "../ism/permissions.ts";
import { parseToken, tokenText } from "../ism/token.ts";
import { ABOUT } from "./about.ts";
import {
  dryRun,
  functionArgument,
  interrupts,
  noCommand,
  opening,
  seconds,
  sizeValue,
  textOption,
  textValue,
  valueParser,
  wholeNumber,
} from "./shared.ts";

const tokenValue = valueParser(
  "TOKEN",
  0n,
  parseToken,
  (input) => message`${input} is no token: 64 bits, in hexadecimal as 0x… or in decimal.`,
  tokenText,
);

const permissionsValue = valueParser(
  "PERMISSIONS",
  0,
  parsePermissions,
  (input) => message`${input} are no permissions: some of read,write,attach,manage, or none.`,
  permissionsText,
);

const devidValue = valueParser(
  "N",
  1n,
  (input) => parseToken(input) || undefined,
  (input) => message`${input} is no device id: 1 or more, as ${"info"} shows it.`,
);

const token = argument(tokenValue, { description: message`Token of a region.` });

const shell = option("--shell", {
  description: message`Take commands from standard input (help lists them); ends when it does.`,
});

const commands = or(
  command("info", object({ command: constant("ism info") }), {
    description: message`Domain, device id, chunks, shared memory areas, features.`,
  }),
  command(
    "alloc",
    object({
      command: constant("ism alloc"),
      bytes: argument(sizeValue, { description: message`Size of the region; K, M and G are allowed.` }),
      grant: optional(option("--grant", permissionsValue, {
        description:
          message`What devices without permissions of their own may do: some of read,write,attach,manage, or none; default read,write,attach.`,
      })),
      fill: optional(textOption("--fill", "TEXT", message`Text to put at its beginning.`)),
      fillFrom: optional(textOption("--fill-from", "FILE", message`File to put at its beginning.`)),
      shell,
    }),
    { description: message`Allocate a region, and hold it and print its events until interrupted.` },
  ),
  command("query", object({ command: constant("ism query"), token }), {
    description: message`Size of a region, and what this function may do with it.`,
  }),
  command(
    "attach",
    object({
      command: constant("ism attach"),
      token,
      read: option("--read", { description: message`To be read.` }),
      write: option("--write", {
        description: message`To be written. Default: what this function may do.`,
      }),
      dump: optional(option("--dump", sizeValue, {
        description: message`Print its first bytes in hexadecimal.`,
      })),
      hold: option("--hold", { description: message`Stay attached and print events until interrupted.` }),
      shell,
    }),
    { description: message`Attach a region and show it.` },
  ),
  command("detach", object({ command: constant("ism detach"), token }), {
    description: message`See to it that the function does not refer to a region.`,
  }),
  command(
    "grant",
    object({
      command: constant("ism grant"),
      token,
      permissions: option("--permissions", permissionsValue, {
        description: message`Some of read,write,attach,manage, or none.`,
      }),
      devid: optional(option("--devid", devidValue, {
        description: message`For this device only. Default: for all without permissions of their own.`,
      })),
      cleanDefault: option("--clean-default", {
        description: message`With --devid: take everything from devices without permissions of their own.`,
      }),
      dryRun,
    }),
    {
      description:
        message`Change the permissions of a region that this function may manage. Its allocator does so while it holds it: alloc --shell.`,
    },
  ),
  command(
    "watch",
    object({
      command: constant("ism watch"),
      tokens: multiple(argument(tokenValue, { description: message`Regions to attach and watch.` })),
      count: optional(option("-n", "--count", wholeNumber({ min: 1, metavar: "N" }), {
        description: message`Stop after N events.`,
      })),
      seconds,
    }),
    { description: message`Print events as they come, until interrupted.` },
  ),
  command(
    "pipe",
    object({
      command: constant("ism pipe"),
      token: optional(argument(tokenValue, { description: message`What the listening side has printed.` })),
      listen: option("--listen", {
        description:
          message`Make the channel, tell its token on standard error, and wait for the other side.`,
      }),
      send: option("--send", {
        description: message`Send standard input: the default of the side that has the token.`,
      }),
      receive: option("--receive", {
        description: message`Write to standard output what comes: the default of the side that listens.`,
      }),
      tokenFile: optional(option("--token-file", textValue("FILE"), {
        description: message`With --listen: write the token to this file, which goes at the end.`,
      })),
      bytes: optional(option("--bytes", sizeValue, {
        description:
          message`With --listen: what can be under way in each direction, a power of two; default 256K.`,
      })),
      peer: optional(option("--peer", devidValue, {
        description: message`With --listen: only this device may connect.`,
      })),
      wait: optional(option("--wait", choice(["poll", "event", "adaptive"], { metavar: "HOW" }), {
        description:
          message`poll, event (sleep), or adaptive (default): look first and then sleep. Without interrupts: poll.`,
      })),
      sha256: option("--sha256", { description: message`Print the SHA-256 of what passed.` }),
    }),
    { description: message`Move standard input of one process to standard output of another.` },
  ),
  command(
    "figure",
    object({
      command: constant("ism figure"),
      output: optional(option("-o", "--output", textValue("FILE"), {
        description: message`Draw it as SVG into a file (- is standard output).`,
      })),
    }),
    {
      description:
        message`The domain: functions, regions, who may do what. The whole of it on an emulated host.`,
    },
  ),
  { errors: noCommand },
);

/** `ism FUNCTION …` */
export const ism = command(
  "ism",
  merge(object({ function: functionArgument, interrupts }), commands, opening),
  ABOUT.ism,
);

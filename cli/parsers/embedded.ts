/**
 * What the commands accept that are about no host but one of their own, or about none.
 *
 * @module
 */
import { object } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { multiple, optional, withDefault } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { choice } from "@optique/core/valueparser";
import { ABOUT } from "./about.ts";
import { numberOption, textArgument, textOption, textValue, wholeNumber } from "./shared.ts";

/** `emulate DIRECTORY` */
export const emulate = command(
  "emulate",
  object({
    command: constant("emulate"),
    directory: textArgument("DIRECTORY", message`Where the sockets go; --host takes it.`),
    topology: optional(option("--topology", textValue("FILE"), {
      description:
        message`JSON file with the functions; default a virtio-net PF, virtio-rng, a management function, and virtio-rng by virtio-mmio.`,
    })),
    totalVfs: optional(option("--total-vfs", wholeNumber({ min: 0, max: 4096, metavar: "N" }), {
      description: message`TotalVFs of the default topology's PF; default 4.`,
    })),
    vhostUser: multiple(option("--vhost-user", textValue("SOCKET,KIND[,KEY=VALUE…]"), {
      description:
        message`A net, blk, rng or console device behind a vhost-user socket, with fields as in a topology; may be repeated. Without --topology and --total-vfs: nothing else.`,
    })),
    clientMemory: optional(
      option("--client-memory", choice(["copy", "map", "refuse"], { metavar: "HOW" }), {
        description:
          message`Memory that a client could truncate: copy it, map it (faster; a client can then end this process), or refuse it; default copy.`,
      }),
    ),
    verbose: option("-v", "--verbose", { description: message`Print violations as they happen.` }),
    background: option("--background", {
      description: message`Return when it serves, and leave it running; --stop ends it.`,
    }),
    stop: option("--stop", { description: message`End the host that is served in DIRECTORY.` }),
    log: optional(
      textOption("--log", "FILE", message`Where remarks and violations go, instead of standard error.`),
    ),
    temporary: option("--temporary", {
      description: message`For a parent process: end when standard input does, and remove DIRECTORY.`,
    }),
  }),
  ABOUT.emulate,
);

/** `demo` */
export const demo = command(
  "demo",
  object({
    command: constant("demo"),
    frames: withDefault(
      numberOption("--frames", { min: 1 }, message`Frames sent by polling; default 100000.`),
      100_000,
    ),
    interruptFrames: withDefault(
      numberOption("--interrupt-frames", { min: 1 }, message`Frames sent by interrupt; default 1000.`),
      1000,
    ),
    vfs: withDefault(numberOption("--vfs", { min: 2, max: 64 }, message`VFs; default 2.`), 2),
  }),
  ABOUT.demo,
);

/** `man` */
export const man = command("man", object({ command: constant("man") }), ABOUT.man);

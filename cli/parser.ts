/**
 * What the command line accepts. Definitions only: commands are in files of their own, so that the parser can be changed.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import type { InferValue } from "@optique/core/parser";
import { command, constant, option } from "@optique/core/primitives";
import { choice, integer, string } from "@optique/core/valueparser";
import { admin } from "./parsers/admin.ts";
import { bench } from "./parsers/bench.ts";
import { blk } from "./parsers/blk.ts";
import { ism } from "./parsers/ism.ts";
import { mmio } from "./parsers/mmio.ts";
import { net } from "./parsers/net.ts";
import { queue } from "./parsers/queue.ts";
import { tvq } from "./parsers/tvq.ts";
import {
  COMMAND_USAGE,
  commandUsage,
  drivenArgument,
  force,
  functionArgument,
  globals,
  interrupts,
  noCommand,
  numberArgument,
  numberOption,
  opening,
  rawOutput,
  textArgument,
  textOption,
  vfTokenOfPf,
} from "./parsers/shared.ts";

export { COMMAND_USAGE };

/** Commands that have commands below them; `or` takes no more than 15. */
const groups = or(
  command("admin", admin, {
    description:
      message`Group administration by a PF's admin queues: list, legacy, notify-info, caps, parts, mode.`,
    usageLine: commandUsage("PF"),
  }),
  command("tvq", tvq, {
    description:
      message`Managed devices of a management function: resources, create, destroy, list, show, features, config, queues, notify-area.`,
    usageLine: commandUsage("FUNCTION"),
  }),
  command("ism", ism, {
    description:
      message`Shared memory regions of virtio-ism: info, alloc, query, attach, detach, grant, watch, pipe, figure.`,
    usageLine: commandUsage("FUNCTION"),
  }),
  command("mmio", mmio, {
    description: message`Registers of a virtio-mmio device: show.`,
    usageLine: commandUsage("DEVICE"),
  }),
  command("queue", queue, {
    description:
      message`Show a function's queues: layout, indices, chains, events, vectors. On an emulated host also while another process drives it.`,
  }),
  command("net", net, {
    description: message`Frames over virtio-net: send, receive, loop.`,
    usageLine: COMMAND_USAGE,
  }),
  command("blk", blk, {
    description: message`Sectors of virtio-blk: info, id, read, write, flush, discard, zero.`,
    usageLine: COMMAND_USAGE,
  }),
  command("bench", bench, {
    description: message`How fast a function is, polled and by interrupt: net, blk.`,
    usageLine: COMMAND_USAGE,
  }),
  { errors: noCommand },
);

const commands = or(
  command(
    "list",
    object({
      command: constant("list"),
      sriov: option("--sriov", { description: message`Only functions with an SR-IOV capability.` }),
      driver: optional(textOption("--driver", "DRIVER", message`Only functions on this driver.`)),
      all: option("--all", {
        description:
          message`Also the platform devices that are neither virtio-mmio's, nor in an IOMMU group, nor on VFIO.`,
      }),
    }),
    {
      description:
        message`List PCI functions and platform devices: names, driver, IOMMU group, SR-IOV, who uses them.`,
    },
  ),
  command(
    "show",
    merge(
      object({
        command: constant("show"),
        function: drivenArgument,
        hex: option("-x", "--hex", { description: message`Add the configuration space in hexadecimal.` }),
      }),
      opening,
    ),
    { description: message`Decode a function: capabilities, regions, vectors, virtio features.` },
  ),
  command(
    "bind",
    object({
      command: constant("bind"),
      function: functionArgument,
      driver: optional(
        textOption(
          "--driver",
          "DRIVER",
          message`Driver to give it to; default vfio-pci, for a platform device vfio-platform.`,
        ),
      ),
      force,
    }),
    { description: message`Give a function to VFIO (or another driver), after noting what to put back.` },
  ),
  command(
    "restore",
    object({
      command: constant("restore"),
      function: optional(textArgument("FUNCTION", message`Only this function and its VFs; default all.`)),
      force,
      forget: option("--forget", {
        description:
          message`Change nothing, and drop what is noted of FUNCTION and its VFs: for a device that is gone for good.`,
      }),
    }),
    { description: message`Put back drivers, overrides, autoprobe and VF counts as they were before.` },
  ),
  command(
    "sriov",
    object({
      command: constant("sriov"),
      function: textArgument("PF", message`Physical function.`),
      count: numberArgument("N", { min: 0, max: 65535 }, message`Number of VFs.`),
      vfToken: vfTokenOfPf,
      autoprobe: optional(option("--autoprobe", choice(["on", "off"], { metavar: "WHEN" }), {
        description:
          message`on or off: whether the kernel binds new VFs to drivers; default off for a PF on vfio-pci.`,
      })),
      force,
    }),
    { description: message`Set the number of VFs of a PF.` },
  ),
  command(
    "status",
    object({ command: constant("status") }),
    { description: message`What restore would put back, and who holds what.` },
  ),
  groups,
  command(
    "console",
    merge(
      object({
        command: constant("console"),
        function: functionArgument,
        port: withDefault(numberOption("--port", { min: 0, max: 65535 }, message`Port; default 0.`), 0),
        list: option("--list", { description: message`List the ports instead.` }),
        lingerMs: withDefault(
          option("--linger", integer({ min: 0, metavar: "MS" }), {
            description: message`How long to wait for more when standard input has ended; default 500.`,
          }),
          500,
        ),
        interrupts,
      }),
      opening,
    ),
    { description: message`Connect standard input and output to a port of virtio-console.` },
  ),
  command(
    "rng",
    merge(
      object({
        command: constant("rng"),
        function: drivenArgument,
        bytes: withDefault(numberArgument("BYTES", { min: 1, max: 1 << 30 }, message`Default 32.`), 32),
        output: rawOutput,
        interrupts,
      }),
      opening,
    ),
    { description: message`Read random bytes from a virtio-rng function.` },
  ),
  command(
    "emulate",
    object({
      command: constant("emulate"),
      directory: textArgument("DIRECTORY", message`Where the sockets go; --host takes it.`),
      topology: optional(option("--topology", string({ metavar: "FILE" }), {
        description:
          message`JSON file with the functions; default a virtio-net PF, virtio-rng, a management function, and virtio-rng by virtio-mmio.`,
      })),
      totalVfs: optional(option("--total-vfs", integer({ min: 0, max: 4096, metavar: "N" }), {
        description: message`TotalVFs of the default topology's PF; default 4.`,
      })),
      clientMemory: optional(
        option("--client-memory", choice(["copy", "map", "refuse"], { metavar: "HOW" }), {
          description:
            message`Memory that a client could truncate: copy it, map it (faster; a client can then end this process), or refuse it; default copy.`,
        }),
      ),
      verbose: option("-v", "--verbose", { description: message`Print violations as they happen.` }),
      temporary: option("--temporary", {
        description: message`For a parent process: end when standard input does, and remove DIRECTORY.`,
      }),
    }),
    { description: message`Serve an embedded host until it is interrupted.` },
  ),
  command(
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
    { description: message`The main job on an embedded host of its own, which is put back afterwards.` },
  ),
  command(
    "doctor",
    object({ command: constant("doctor") }),
    { description: message`Is this host ready? Each finding with the command that mends it.` },
  ),
  { errors: noCommand },
);

// Global options may stand before the command as well as after it.
const everything = merge(globals, commands);

/** The whole command line. */
export const parser: typeof everything = everything;

/** What it parses to. */
export type Invocation = InferValue<typeof everything>;

/** The invocation of one command. */
export type Of<C extends Invocation["command"]> = Extract<Invocation, { command: C }>;

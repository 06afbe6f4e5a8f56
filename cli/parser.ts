/**
 * What the command line accepts. Definitions only: commands are in files of their own, so that the parser can be changed.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import type { InferValue } from "@optique/core/parser";
import { argument, command, constant, option } from "@optique/core/primitives";
import type { Usage } from "@optique/core/usage";
import { choice, integer, string } from "@optique/core/valueparser";

const globals = object("Everywhere", {
  json: option("--json", { description: message`Print the result, or the error, as JSON.` }),
  host: optional(option("--host", string({ metavar: "HOST" }), {
    description: message`linux (default), or the directory of an emulated host. Not for demo and emulate.`,
  })),
});

const functionArgument = argument(string({ metavar: "FUNCTION" }), {
  description: message`PCI address, as 0000:01:00.0 or 01:00.0.`,
});

const force = option("--force", {
  description:
    message`Go on although the host uses the function (an address, a default route, a mount, swap).`,
});

const opening = object("Opening a function", {
  path: optional(option("--path", choice(["group", "cdev"], { metavar: "PATH" }), {
    description: message`group or cdev; default cdev where the kernel has it, else group.`,
  })),
  vfToken: optional(option("--vf-token", string({ metavar: "UUID" }), {
    description: message`Token of the PF, for a VF whose PF is on vfio-pci.`,
  })),
  unsafe: option("--enable-unsafe-noiommu-mode", {
    description: message`Open without an IOMMU: the device can then reach all of memory.`,
  }),
});

const vfTokenOfPf = optional(option("--vf-token", string({ metavar: "UUID" }), {
  description: message`Token to set on a PF that is on vfio-pci: its VFs then open with it only.`,
}));

const interrupts = withDefault(
  option("--interrupts", choice(["auto", "msix", "intx", "none"], { metavar: "KIND" }), {
    description: message`auto (default), msix, intx, or none: poll.`,
  }),
  "auto" as const,
);

const driving = object("Driving", {
  interrupts,
  queueSize: optional(option("--queue-size", integer({ min: 2, max: 32768, metavar: "N" }), {
    description: message`Descriptors a queue; a power of two.`,
  })),
});

const count = optional(option("-n", "--count", integer({ min: 1, metavar: "N" }), {
  description: message`Stop after N frames.`,
}));
const seconds = optional(option("-t", "--seconds", integer({ min: 1, metavar: "S" }), {
  description: message`Stop after S seconds.`,
}));

const noCommand = { noMatch: message`No command; --help lists them.` };

/** Usage of what has commands below it: their own help has the rest. */
export const COMMAND_USAGE: Usage = [{
  type: "sequence",
  terms: [{ type: "argument", metavar: "COMMAND" }, { type: "ellipsis" }],
}];

const net = or(
  command(
    "send",
    merge(
      object({
        command: constant("net send"),
        function: functionArgument,
        capture: argument(string({ metavar: "CAPTURE" }), {
          description: message`pcap or pcapng file to send; - is standard input.`,
        }),
        count,
        repeat: withDefault(
          option("--repeat", integer({ min: 1, metavar: "N" }), {
            description: message`Send the file N times.`,
          }),
          1,
        ),
        rate: optional(option("--rate", integer({ min: 1, metavar: "FPS" }), {
          description: message`Frames a second at most.`,
        })),
      }),
      driving,
      opening,
    ),
    { description: message`Send the frames of a capture file.` },
  ),
  command(
    "receive",
    merge(
      object({
        command: constant("net receive"),
        function: functionArgument,
        capture: argument(string({ metavar: "CAPTURE" }), {
          description: message`File to write: pcapng when its name ends so, else pcap; - is standard output.`,
        }),
        count,
        seconds,
        promiscuous: option("--promiscuous", { description: message`Take frames for other addresses too.` }),
      }),
      driving,
      opening,
    ),
    { description: message`Write received frames to a capture file.` },
  ),
  command(
    "loop",
    merge(
      object({
        command: constant("net loop"),
        function: functionArgument,
        receiver: argument(string({ metavar: "RECEIVER" }), {
          description: message`Function that receives.`,
        }),
        capture: optional(option("--capture", string({ metavar: "CAPTURE" }), {
          description: message`Send this file's frames, instead of frames made up.`,
        })),
        count,
        frameBytes: withDefault(
          option("--frame-bytes", integer({ min: 64, max: 9000, metavar: "N" }), {
            description: message`Length of the frames made up; default 64.`,
          }),
          64,
        ),
      }),
      driving,
      opening,
    ),
    { description: message`Send from one function to another and check every byte.` },
  ),
  { errors: noCommand },
);

const firstSector = argument(integer({ min: 0, metavar: "SECTOR" }), {
  description: message`First sector, of 512 bytes.`,
});
const sectorCount = argument(integer({ min: 1, metavar: "COUNT" }), { description: message`Sectors.` });

const blk = or(
  command(
    "info",
    merge(object({ command: constant("blk info"), function: functionArgument }), driving, opening),
    { description: message`Size, limits, cache, id and features.` },
  ),
  command(
    "id",
    merge(object({ command: constant("blk id"), function: functionArgument }), driving, opening),
    { description: message`Print the device's id.` },
  ),
  command(
    "read",
    merge(
      object({
        command: constant("blk read"),
        function: functionArgument,
        sector: firstSector,
        count: sectorCount,
        output: optional(option("-o", "--output", string({ metavar: "FILE" }), {
          description: message`Write raw bytes to a file (- is standard output) instead of hexadecimal.`,
        })),
      }),
      driving,
      opening,
    ),
    { description: message`Read sectors.` },
  ),
  command(
    "write",
    merge(
      object({
        command: constant("blk write"),
        function: functionArgument,
        sector: firstSector,
        file: argument(string({ metavar: "FILE" }), {
          description: message`Whole sectors to write; - is standard input.`,
        }),
      }),
      driving,
      opening,
    ),
    { description: message`Write a file to sectors, and flush.` },
  ),
  command(
    "flush",
    merge(object({ command: constant("blk flush"), function: functionArgument }), driving, opening),
    { description: message`Put what is in the device's write cache on the disk.` },
  ),
  command(
    "discard",
    merge(
      object({
        command: constant("blk discard"),
        function: functionArgument,
        sector: firstSector,
        count: sectorCount,
      }),
      driving,
      opening,
    ),
    { description: message`Give sectors back; what they then read as is not known.` },
  ),
  command(
    "zero",
    merge(
      object({
        command: constant("blk zero"),
        function: functionArgument,
        sector: firstSector,
        count: sectorCount,
        unmap: option("--unmap", { description: message`The device may give the sectors back.` }),
      }),
      driving,
      opening,
    ),
    { description: message`Make sectors read as zero, and flush.` },
  ),
  { errors: noCommand },
);

const stateFile = argument(string({ metavar: "FILE" }), {
  description: message`JSON file of queue states.`,
});

const queue = or(
  command(
    "save",
    merge(
      object({
        command: constant("queue save"),
        function: functionArgument,
        file: stateFile,
        layout: withDefault(
          option("--layout", choice(["split", "packed"], { metavar: "LAYOUT" }), {
            description: message`split or packed (default): of a function that nobody drives.`,
          }),
          "packed" as const,
        ),
      }),
      opening,
    ),
    {
      description:
        message`Write where a function of profile queue-state stands in its queues: on an emulated host also while it is driven, else what it kept over its last reset.`,
    },
  ),
  command(
    "load",
    merge(
      object({ command: constant("queue load"), function: functionArgument, file: stateFile }),
      opening,
    ),
    {
      description:
        message`Try whether a function takes the states of a file (or of a saved device) and keeps them over a reset. It is left reset.`,
    },
  ),
  merge(
    object({
      command: constant("queue"),
      function: functionArgument,
      chains: option("--chains", { description: message`List the chains that the device has not read.` }),
    }),
    opening,
  ),
);

const commands = or(
  command(
    "list",
    object({
      command: constant("list"),
      sriov: option("--sriov", { description: message`Only functions with an SR-IOV capability.` }),
      driver: optional(option("--driver", string({ metavar: "DRIVER" }), {
        description: message`Only functions on this driver.`,
      })),
    }),
    { description: message`List PCI functions: names, driver, IOMMU group, SR-IOV, who uses them.` },
  ),
  command(
    "show",
    merge(
      object({
        command: constant("show"),
        function: functionArgument,
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
      driver: withDefault(
        option("--driver", string({ metavar: "DRIVER" }), {
          description: message`Driver to give it to; default vfio-pci.`,
        }),
        "vfio-pci",
      ),
      force,
    }),
    { description: message`Give a function to vfio-pci (or another driver), after noting what to put back.` },
  ),
  command(
    "restore",
    object({
      command: constant("restore"),
      function: optional(argument(string({ metavar: "FUNCTION" }), {
        description: message`Only this function and its VFs; default all.`,
      })),
      force,
    }),
    { description: message`Put back drivers, overrides, autoprobe and VF counts as they were before.` },
  ),
  command(
    "sriov",
    object({
      command: constant("sriov"),
      function: argument(string({ metavar: "PF" }), { description: message`Physical function.` }),
      count: argument(integer({ min: 0, max: 65535, metavar: "N" }), {
        description: message`Number of VFs.`,
      }),
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
  command(
    "console",
    merge(
      object({
        command: constant("console"),
        function: functionArgument,
        port: withDefault(
          option("--port", integer({ min: 0, max: 65535, metavar: "N" }), {
            description: message`Port; default 0.`,
          }),
          0,
        ),
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
        function: functionArgument,
        bytes: withDefault(
          argument(integer({ min: 1, max: 1 << 30, metavar: "BYTES" }), {
            description: message`Default 32.`,
          }),
          32,
        ),
        output: optional(option("-o", "--output", string({ metavar: "FILE" }), {
          description: message`Write raw bytes to a file (- is standard output) instead of hexadecimal.`,
        })),
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
      directory: argument(string({ metavar: "DIRECTORY" }), {
        description: message`Where the sockets go; --host takes it.`,
      }),
      topology: optional(option("--topology", string({ metavar: "FILE" }), {
        description: message`JSON file with the functions; default one virtio-net PF and one virtio-rng.`,
      })),
      totalVfs: optional(option("--total-vfs", integer({ min: 0, max: 4096, metavar: "N" }), {
        description: message`TotalVFs of the default topology's PF; default 4.`,
      })),
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
        option("--frames", integer({ min: 1, metavar: "N" }), {
          description: message`Frames sent by polling; default 100000.`,
        }),
        100_000,
      ),
      interruptFrames: withDefault(
        option("--interrupt-frames", integer({ min: 1, metavar: "N" }), {
          description: message`Frames sent by interrupt; default 1000.`,
        }),
        1000,
      ),
      vfs: withDefault(
        option("--vfs", integer({ min: 2, max: 64, metavar: "N" }), {
          description: message`VFs; default 2.`,
        }),
        2,
      ),
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

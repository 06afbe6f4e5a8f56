/**
 * What each first word of the command line is for, in the order of help.
 *
 * @module
 */
import { type Message, message } from "@optique/core/message";
import type { Usage } from "@optique/core/usage";
import { COMMAND_USAGE, commandUsage } from "./usage.ts";

interface About {
  readonly description: Message;
  /** Of those that have commands below them. */
  readonly usageLine?: Usage;
}

/** By word. */
export const ABOUT = {
  list: {
    description:
      message`List PCI functions and platform devices: names, driver, IOMMU group, SR-IOV, who uses them.`,
  },
  show: { description: message`Decode functions: capabilities, regions, vectors, virtio features.` },
  bind: {
    description:
      message`Give functions to VFIO (or another driver), all or none, after noting what to put back.`,
  },
  restore: {
    description: message`Put back drivers, overrides, autoprobe and VF counts as they were before.`,
  },
  sriov: {
    description: message`Set the number of VFs of PFs, of all or of none.`,
    usageLine: [
      { type: "multiple", terms: [{ type: "argument", metavar: "OPTION" }], min: 0 },
      { type: "multiple", terms: [{ type: "argument", metavar: "PF" }], min: 0 },
      { type: "argument", metavar: "N" },
    ],
  },
  status: { description: message`What restore would put back, and who holds what.` },
  top: { description: message`Live counters: functions, queues, interrupts, and who holds what.` },
  peek: { description: message`Read registers, by place or by name.` },
  poke: { description: message`Write one register, and say what it was and is.` },
  regs: { description: message`Decode all registers that are known by name, or what differs from before.` },
  repl: { description: message`Deno's REPL with a function open: registers by name, BARs, drivers.` },
  trace: {
    description: message`What --trace recorded: show, diff, replay.`,
    usageLine: COMMAND_USAGE,
  },
  admin: {
    description:
      message`Group administration by a PF's admin queues: list, legacy, notify-info, caps, parts, mode.`,
    usageLine: commandUsage("PF"),
  },
  tvq: {
    description:
      message`Managed devices of a management function: resources, create, destroy, list, show, features, config, queues, notify-area.`,
    usageLine: commandUsage("FUNCTION"),
  },
  ism: {
    description:
      message`Shared memory regions of virtio-ism: info, alloc, query, attach, detach, grant, watch, pipe, figure.`,
    usageLine: commandUsage("FUNCTION"),
  },
  mmio: {
    description: message`Registers of a virtio-mmio device: show.`,
    usageLine: commandUsage("DEVICE"),
  },
  queue: {
    description:
      message`Show a function's queues: layout, indices, chains, events, vectors. On an emulated host also while another process drives it.`,
  },
  net: {
    description: message`Frames over virtio-net and the 82576 (igb, igbvf): send, receive, loop.`,
    usageLine: COMMAND_USAGE,
  },
  blk: {
    description: message`Sectors of virtio-blk: info, id, read, write, flush, discard, zero.`,
    usageLine: COMMAND_USAGE,
  },
  bench: {
    description: message`How fast a function is, polled and by interrupt: net, blk.`,
    usageLine: COMMAND_USAGE,
  },
  control: {
    description:
      message`What is done to hardware by hand, to a device of an emulated host: link, ports, capacity, presence, errors.`,
  },
  console: { description: message`Connect standard input and output to a port of virtio-console.` },
  rng: { description: message`Read random bytes from a virtio-rng function.` },
  emulate: { description: message`Serve an embedded host until it is interrupted.` },
  demo: { description: message`The main job on an embedded host of its own, which is put back afterwards.` },
  doctor: { description: message`Is this host ready? Each finding with the command that mends it.` },
  man: { description: message`Print the manual page, for man -l -.` },
} as const satisfies Record<string, About>;

/**
 * What the `admin` commands accept. The PF stands before the command: `admin PF legacy dump --vf 3`.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { optional, withDefault } from "@optique/core/modifiers";
import { argument, command, constant, option } from "@optique/core/primitives";
import { choice } from "@optique/core/valueparser";
import { ABOUT } from "./about.ts";
import { COMMAND_USAGE } from "./usage.ts";
import {
  dryRun,
  interrupts,
  noCommand,
  numberArgument,
  opening,
  textArgument,
  wholeNumber,
} from "./shared.ts";

const pf = textArgument("PF", message`Physical function that offers VIRTIO_F_ADMIN_VQ, on vfio-pci.`);

const vf = option("--vf", wholeNumber({ min: 0, max: 65534, metavar: "N" }), {
  description: message`VF by its index, from 0; member N + 1 of the group.`,
});

const part = withDefault(
  option("--part", choice(["common", "device"], { metavar: "PART" }), {
    description: message`common (default): the legacy registers; device: the device's configuration.`,
  }),
  "common" as const,
);

const offset = numberArgument("OFFSET", { min: 0, max: 255 }, message`Bytes from the start of the part.`);
const width = argument(choice(["1", "2", "4"], { metavar: "WIDTH" }), {
  description: message`Bytes of the access: 1, 2 or 4.`,
});

const file = textArgument("FILE", message`JSON file of device parts.`);

const legacy = or(
  command("dump", object({ command: constant("admin legacy dump"), vf }), {
    description:
      message`Read and decode all legacy registers, and the device's configuration. The ISR is cleared by it.`,
  }),
  command("read", object({ command: constant("admin legacy read"), vf, part, offset, width }), {
    description: message`Read one register.`,
  }),
  command(
    "write",
    object({
      command: constant("admin legacy write"),
      vf,
      part,
      offset,
      width,
      value: textArgument("VALUE", message`Decimal, or hexadecimal as 0x….`),
      dryRun,
    }),
    { description: message`Write one register.` },
  ),
  { errors: noCommand },
);

const parts = or(
  command("show", object({ command: constant("admin parts show"), vf }), {
    description: message`Read and decode the state of a VF. Its driver may change it meanwhile.`,
  }),
  command("save", object({ command: constant("admin parts save"), file, vf }), {
    description: message`Stop a VF, write its state to a file, and let it go on.`,
  }),
  command(
    "load",
    object({
      command: constant("admin parts load"),
      file,
      vf,
      dryRun,
      keepStopped: option("--keep-stopped", { description: message`Do not let the VF go on.` }),
    }),
    { description: message`Stop a VF, set its state from a file, and let it go on.` },
  ),
  { errors: noCommand },
);

const hold = option("--hold", {
  description:
    message`Keep the PF open until interrupted: a PF that is closed is reset, and its VFs with it.`,
});

const mode = or(
  command("stop", object({ command: constant("admin mode stop"), vf, hold, dryRun }), {
    description: message`Stop a VF: it touches no memory and sends no interrupt.`,
  }),
  command("resume", object({ command: constant("admin mode resume"), vf, dryRun }), {
    description: message`Let a stopped VF go on.`,
  }),
  { errors: noCommand },
);

const commands = or(
  command(
    "list",
    object({
      command: constant("admin list"),
      group: optional(option("--group", choice(["sriov", "self"], { metavar: "GROUP" }), {
        description: message`sriov or self; default both.`,
      })),
    }),
    { description: message`Commands by name: supported by the device, and in use.` },
  ),
  command("legacy", legacy, {
    description: message`Legacy registers of a VF: dump, read, write.`,
    usageLine: COMMAND_USAGE,
  }),
  command("notify-info", object({ command: constant("admin notify-info"), vf }), {
    description: message`Where a VF's legacy driver may notify.`,
  }),
  command("caps", object({ command: constant("admin caps") }), {
    description: message`Capabilities of the PF, decoded.`,
  }),
  command("parts", parts, {
    description: message`State of a VF as device parts: show, save, load.`,
    usageLine: COMMAND_USAGE,
  }),
  command("mode", mode, {
    description: message`Stop a VF, or let it go on.`,
    usageLine: COMMAND_USAGE,
  }),
  { errors: noCommand },
);

/** `admin PF …` */
export const admin = command(
  "admin",
  merge(object({ function: pf, interrupts }), commands, opening),
  ABOUT.admin,
);

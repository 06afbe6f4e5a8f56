/**
 * What the `tvq` commands accept. The function stands before the command: `tvq FUNCTION create net`.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { multiple } from "@optique/core/modifiers";
import { command, constant, option } from "@optique/core/primitives";
import { ABOUT } from "./about.ts";
import { interrupts, noCommand, opening, textArgument } from "./shared.ts";

const management = textArgument("FUNCTION", message`Management function, on vfio-pci.`);

const device = textArgument("DEVICE", message`net, blk or rng, with attributes as in net:mtu=9000.`);

const devices = multiple(device, {
  min: 1,
  errors: { tooFew: message`No DEVICE, such as net or blk:sectors=4096.` },
});

const drive = option("--drive", {
  description: message`Bring it up with its driver first, and look at it while it runs.`,
});

const hold = option("--hold", {
  description: message`Keep the function open, and so the devices, until interrupted.`,
});

const commands = or(
  command("resources", object({ command: constant("tvq resources") }), {
    description: message`Virtqueues and devices that are left.`,
  }),
  command(
    "create",
    object({ command: constant("tvq create"), devices, hold }),
    {
      description:
        message`Create devices. They end with the reset of their management device, which VFIO does when its process closes it: so all commands make what they work on.`,
    },
  ),
  command(
    "destroy",
    object({ command: constant("tvq destroy"), devices }),
    { description: message`Create devices and destroy them: what they took comes back.` },
  ),
  command(
    "list",
    object({ command: constant("tvq list"), devices: multiple(device), drive }),
    {
      description:
        message`Create devices and list them; without DEVICE those that another process of an emulated host has.`,
    },
  ),
  command("show", object({ command: constant("tvq show"), device, drive }), {
    description: message`All that a device says of itself.`,
  }),
  command("features", object({ command: constant("tvq features"), device, drive }), {
    description: message`Status, and features by name: asked for, offered, shown to a driver, accepted.`,
  }),
  command("config", object({ command: constant("tvq config"), device, drive }), {
    description: message`Config space, field by field.`,
  }),
  command("queues", object({ command: constant("tvq queues"), device, drive }), {
    description: message`Queues: size, enabled, interrupt.`,
  }),
  command("notify-area", object({ command: constant("tvq notify-area"), device, drive }), {
    description: message`Where queues are notified.`,
  }),
  { errors: noCommand },
);

/** `tvq FUNCTION …` */
export const tvq = command(
  "tvq",
  merge(object({ function: management, interrupts }), commands, opening),
  ABOUT.tvq,
);

/**
 * What the `mmio` commands accept. The device stands before the command: `mmio a003e00.virtio_mmio show`.
 *
 * @module
 */
import { merge, object, or } from "@optique/core/constructs";
import { message } from "@optique/core/message";
import { command, constant } from "@optique/core/primitives";
import { ABOUT } from "./about.ts";
import { noCommand, opening, textArgument } from "./shared.ts";

const device = textArgument("DEVICE", message`Platform device on vfio-platform, as a003e00.virtio_mmio.`);

const commands = or(
  command("show", object({ command: constant("mmio show") }), {
    description:
      message`Read and decode every register, queue by queue, and the config space. Selectors are written, and are 0 afterwards.`,
  }),
  { errors: noCommand },
);

/** `mmio DEVICE …` */
export const mmio = command("mmio", merge(object({ function: device }), commands, opening), ABOUT.mmio);

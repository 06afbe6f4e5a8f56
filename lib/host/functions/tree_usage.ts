/**
 * Uses of network interfaces and disks on an emulated host: what its tree says, and nothing of the machine that runs it.
 *
 * @module
 */
import { typedErrors } from "../../errors/doors.ts";
import type { FunctionAttributes } from "../sysfs/attributes.ts";
import type { HostUsage } from "./host_usage.ts";

/**
 * `HostUsage` of an emulated host. An attribute `host_use` beside a class device (`/sys/class/net/<name>/host_use`) lists the uses,
 * one phrase a line; a device without it is free.
 */
export class TreeUsage implements HostUsage {
  static {
    typedErrors(this);
  }

  readonly #attributes: FunctionAttributes;

  /** Reads the emulated host's tree through `attributes`. */
  constructor(attributes: FunctionAttributes) {
    this.#attributes = attributes;
  }

  netInterface(name: string): string[] {
    return this.#uses(`/sys/class/net/${name}/host_use`);
  }

  blockDevice(name: string): string[] {
    return this.#uses(`/sys/class/block/${name}/host_use`);
  }

  #uses(path: string): string[] {
    return (this.#attributes.optional(path) ?? "").split("\n").filter((line) => line !== "");
  }
}

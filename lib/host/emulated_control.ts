/**
 * What may be done to the devices of an emulated host while drivers run: what a person does to hardware by hand.
 *
 * @module
 */
import { isErrno } from "../../ffi/mod.ts";
import { requireType, typedErrors } from "../errors/doors.ts";
import { NotFoundError, UsageError } from "../errors/mod.ts";
import { connectSysfs } from "./emulated_host.ts";
import type { Sysfs } from "./sysfs/sysfs.ts";

const FUNCTIONS = "/ringside/functions";

/**
 * Controls of an emulated host's devices, by name: `link`, `ports`, `capacity`, `present` and others, as docs/emulation.md lists them.
 *
 * ```ts
 * import { EmulatedControl } from "@ringside/ringside/host";
 *
 * using control = EmulatedControl.connect("/tmp/host");
 * control.set("0000:01:00.0", "link", "down");
 * console.log(control.get("0000:01:00.0", "link")); // down
 * ```
 */
export class EmulatedControl implements Disposable {
  static {
    typedErrors(this);
  }

  readonly #sysfs: Sysfs;

  private constructor(sysfs: Sysfs) {
    this.#sysfs = sysfs;
  }

  /** Connects to the host that is served in a directory. @throws NotFoundError when none is, PeerGoneError when its process has ended */
  static connect(directory: string): EmulatedControl {
    requireType(directory, "string", "EmulatedControl.connect: directory");
    return new EmulatedControl(connectSysfs(directory));
  }

  /** What can be controlled of a device, by its full address. @throws NotFoundError */
  names(address: string): string[] {
    return this.#asked(address, undefined, () => this.#sysfs.list(pathOf(address)));
  }

  /** How a control stands; undefined for one that can only be written. @throws NotFoundError */
  get(address: string, name: string): string | undefined {
    const read = () => this.#sysfs.readText(pathOf(address, name));
    return this.#asked(address, name, () => {
      try {
        return read();
      } catch (error) {
        if (isErrno(error, "EACCES")) return undefined;
        throw error;
      }
    });
  }

  /** Changes one. @throws NotFoundError, UsageError for what cannot be, SyscallError */
  set(address: string, name: string, value: string): void {
    requireType(value, "string", "EmulatedControl.set: value");
    this.#asked(address, name, () => this.#sysfs.writeText(pathOf(address, name), value));
  }

  /** Plugs a new PCI function in: its fields as a topology has them. @throws UsageError for what cannot be, SyscallError */
  plug(fields: Readonly<Record<string, unknown>>): void {
    requireType(fields, "object", "EmulatedControl.plug: fields");
    refusing(() => this.#sysfs.writeText("/ringside/plug", JSON.stringify(fields)));
  }

  /** Ends the connection; may be called again. */
  close(): void {
    this.#sysfs[Symbol.dispose]();
  }

  /** As `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #asked<T>(address: string, name: string | undefined, ask: () => T): T {
    try {
      return refusing(ask);
    } catch (error) {
      if (!isErrno(error, "ENOENT")) throw error;
      if (name === undefined || !this.#sysfs.exists(pathOf(address))) {
        const all = this.#sysfs.exists(FUNCTIONS) ? this.#sysfs.list(FUNCTIONS) : [];
        throw new NotFoundError(`the emulated host has no device ${address}`, {
          hint: `there are ${all.join(", ")}`,
          cause: error,
        });
      }
      throw new NotFoundError(`${address} has no control ${name}`, {
        hint: `it has ${this.#sysfs.list(pathOf(address)).join(", ")}`,
        cause: error,
      });
    }
  }
}

/** What the host finds wrong with a request is the caller's mistake. */
function refusing<T>(ask: () => T): T {
  try {
    return ask();
  } catch (error) {
    if (!isErrno(error, "EINVAL")) throw error;
    throw new UsageError(error.hint ?? error.message, { cause: error });
  }
}

/** @throws UsageError for what would be another file */
function pathOf(address: string, name?: string): string {
  requireType(address, "string", "EmulatedControl: address");
  if (name !== undefined) requireType(name, "string", "EmulatedControl: name");
  for (const part of [address, name ?? "x"]) {
    if (/^(\.{0,2}|.*\/.*)$/.test(part)) throw new UsageError(`${JSON.stringify(part)} is no name`);
  }
  return name === undefined ? `${FUNCTIONS}/${address}` : `${FUNCTIONS}/${address}/${name}`;
}

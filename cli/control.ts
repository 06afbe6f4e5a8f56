/**
 * `ringside control`
 *
 * @module
 */
import { UnsupportedError, UsageError } from "../lib/errors/mod.ts";
import { EmulatedHost } from "../lib/host/emulated_host.ts";
import { EmulatedControl, type Host } from "../lib/host/mod.ts";
import { PciAddress } from "../lib/pci/address.ts";
import { print, printJson } from "./output.ts";
import type { Of } from "./parser.ts";

/** Shows what can be controlled of a device, or one of it, or changes that. */
export function control(host: Host, options: Of<"control">): void {
  if (!(host instanceof EmulatedHost)) {
    throw new UnsupportedError(`${host.name} is no emulated host: its devices are not to be controlled`, {
      hint: "--host with the directory of one: ringside emulate DIRECTORY",
    });
  }
  using controls = EmulatedControl.connect(host.name);
  // One that was pulled out is not listed any more.
  const address = PciAddress.tryParse(options.function)?.toString() ?? options.function;
  const { name, values, json } = options;
  if (name === "plug") return plug(controls, address, values, json);
  if (name === undefined) {
    const all = Object.fromEntries(controls.names(address).map((one) => [one, controls.get(address, one)]));
    if (json) return printJson({ function: address, controls: withNulls(all) });
    const width = Math.max(...Object.keys(all).map((one) => one.length));
    for (const [one, value] of Object.entries(all)) {
      print(`${one.padEnd(width)}  ${value ?? "(write now)"}`);
    }
    return;
  }
  if (values.length > 0) controls.set(address, name, values.join(" "));
  // With `present no` all others are gone, too.
  const value = controls.get(address, name);
  if (values.length === 0 && value === undefined) {
    throw new UsageError(`${name} of ${address} can only be written`, {
      hint: `ringside control ${address} ${name} now`,
    });
  }
  if (json) printJson({ function: address, controls: withNulls({ [name]: value }) });
  else print(value ?? "done");
}

function plug(controls: EmulatedControl, address: string, values: readonly string[], json: boolean): void {
  const text = values.join(" ");
  if (text === "") {
    throw new UsageError(`control ${address} plug: nothing says what is plugged in`, {
      hint: "a kind, as virtio-rng, or fields of a topology as JSON",
    });
  }
  let fields: unknown;
  try {
    fields = text.startsWith("{") ? JSON.parse(text) : { kind: text };
  } catch (cause) {
    throw new UsageError(`control ${address} plug: ${text} is not JSON`, { cause });
  }
  controls.plug({ ...fields as Record<string, unknown>, address });
  if (json) printJson({ function: address, controls: { present: "yes" } });
  else print(`${address} is there`);
}

function withNulls(values: Readonly<Record<string, string | undefined>>): Record<string, string | null> {
  return Object.fromEntries(Object.entries(values).map(([name, value]) => [name, value ?? null]));
}

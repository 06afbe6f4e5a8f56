/**
 * `--vhost-user SOCKET,KIND[,KEY=VALUE…]` of `ringside emulate`: what a topology would say in `vhostUser`.
 *
 * @module
 */
import { UsageError } from "../lib/errors/mod.ts";

const FORM = "--vhost-user SOCKET,net|blk|rng|console[,KEY=VALUE…]";

/**
 * Fields of a device, unchecked but for their form. A value is what JSON makes of it, and else text: `sizeBytes=1048576`, `readOnly=true`,
 * `mac=52:54:00:12:34:56`; names of features are joined by `+`.
 * @throws UsageError
 */
export function vhostUserFields(text: string): Readonly<Record<string, unknown>> {
  const [socket = "", kind = "", ...rest] = text.split(",");
  if (socket === "" || kind === "") {
    throw new UsageError(`--vhost-user ${text}: it names no socket and kind`, { hint: FORM });
  }
  const fields: Record<string, unknown> = {
    socket,
    kind: kind.startsWith("virtio-") ? kind : `virtio-${kind}`,
  };
  for (const one of rest) {
    const [key = "", ...value] = one.split("=");
    if (key === "" || value.length === 0) {
      throw new UsageError(`--vhost-user ${text}: ${JSON.stringify(one)} is not KEY=VALUE`, { hint: FORM });
    }
    if (Object.hasOwn(fields, key)) {
      throw new UsageError(`--vhost-user ${text}: ${key} is said twice`, { hint: FORM });
    }
    const said = value.join("=");
    fields[key] = key === "featuresOff" ? said.split("+") : valueOf(said);
  }
  return fields;
}

function valueOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}

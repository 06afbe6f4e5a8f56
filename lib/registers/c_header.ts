/**
 * A table of registers as a header of C for a kernel driver: offsets, and masks as `FIELD_GET` and `FIELD_PREP` take them.
 *
 * @module
 */
import { requireType, typedCall } from "../errors/doors.ts";
import { UsageError } from "../errors/mod.ts";
import { shown } from "../errors/shown.ts";
import type { RegisterTable } from "./declaration.ts";
import { ends, requireSound } from "./table.ts";

/**
 * Names are `PREFIX_REGISTER`, `PREFIX_REGISTER_FIELD` (the mask), `…_SHIFT` of a field of several bits, and `PREFIX_REGISTER_FIELD_VALUE`, all in capitals.
 * A register of an array is a macro of its number, and `…_COUNT` says how many there are.
 * @param prefix what all names begin with, such as `IGB`
 * @throws UsageError for a prefix that is no name, a table that is wrong, and two things that would have one name
 */
export function cHeader(table: RegisterTable, prefix: string): string {
  return typedCall("cHeader", [table, prefix], () => {
    requireType(table, "object", "cHeader: table");
    requireType(prefix, "string", "cHeader: prefix");
    if (!/^[A-Za-z_]\w*$/.test(prefix)) {
      throw new UsageError(`${shown(prefix)} cannot begin a name of C`, { hint: "letters, digits and _" });
    }
    requireSound(table);
    const header = new Header(macro(prefix));
    for (
      const [name, register] of Object.entries(table).sort(([, one], [, other]) => one.offset - other.offset)
    ) {
      const { offset, strideBytes, count, width, access, fields = {}, reset } = register;
      const base = header.name(name);
      const bits = `${8 * width} bits${access === undefined ? "" : `, ${access}`}`;
      const place = `0x${offset.toString(16).padStart(4, "0")}`;
      if (strideBytes === undefined) header.define(base, place, bits);
      else header.define(base, `(${place} + 0x${strideBytes.toString(16)} * (n))`, bits, "(n)");
      if (count !== undefined && count > 1) header.define(`${base}_COUNT`, `${count}`);
      const wide = width === 8 ? "_ULL" : "";
      if (reset !== undefined) {
        header.define(`${base}_RESET`, `0x${reset.toString(16)}${wide === "" ? "" : "ULL"}`);
      }
      for (const [field, declared] of Object.entries(fields)) {
        const [high, low] = ends(declared);
        const title = header.name(name, field);
        if (high === low) header.define(title, `BIT${wide}(${low})`, declared.access);
        else {
          header.define(title, `GENMASK${wide}(${high}, ${low})`, declared.access);
          header.define(`${title}_SHIFT`, `${low}`);
        }
        for (const [value, number] of Object.entries(declared.values ?? {})) {
          header.define(header.name(name, field, value), `${number}`);
        }
      }
    }
    return header.text();
  });
}

class Header {
  readonly #prefix: string;
  readonly #lines: [left: string, right: string, remark: string][] = [];
  readonly #taken = new Set<string>();

  constructor(prefix: string) {
    this.#prefix = prefix;
  }

  name(...words: string[]): string {
    return [this.#prefix, ...words.map(macro)].join("_");
  }

  define(name: string, value: string, remark = "", parameters = ""): void {
    if (this.#taken.has(name)) {
      throw new UsageError(`two things of the table would both be ${name} in C`, {
        hint: "rename a register, a field or a value",
      });
    }
    this.#taken.add(name);
    this.#lines.push([`#define ${name}${parameters}`, value, remark]);
  }

  text(): string {
    const guard = `_${this.#prefix}_REGS_H_`;
    const left = Math.max(0, ...this.#lines.map(([one]) => one.length));
    const right = Math.max(0, ...this.#lines.map(([, one]) => one.length));
    const lines = this.#lines.map(([name, value, remark]) =>
      remark === ""
        ? `${name.padEnd(left)}  ${value}`
        : `${name.padEnd(left)}  ${value.padEnd(right)}  /* ${remark} */`
    );
    return [
      `#ifndef ${guard}`,
      `#define ${guard}`,
      "",
      "#include <linux/bits.h>",
      "",
      ...lines,
      "",
      "#endif",
      "",
    ]
      .join("\n");
  }
}

/** `queueNotifyOff` and `queue_notify_off` are both `QUEUE_NOTIFY_OFF`. */
function macro(name: string): string {
  return name.replace(/([a-z0-9])([A-Z])/g, "$1_$2").replace(/\W/g, "_").toUpperCase();
}

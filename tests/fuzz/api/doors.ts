/**
 * The public doors of the project, found by reflection: every function, class, method, getter and setter that `deno.json` exports, or that an
 * object which came out of one has. A new method is walked through without a line here.
 *
 * @module
 */
import configuration from "../../../deno.json" with { type: "json" };
import { readDirectory, readText } from "../../../ffi/mod.ts";

const ROOT = new URL("../../../", import.meta.url);

/** What a call takes, as far as its source says. */
export interface Parameter {
  /** Its name; empty when it is taken apart at once. */
  readonly name: string;
  /** Fields that the source takes out of it. */
  readonly fields: readonly string[];
}

/** Something that can be called, read or written. */
export interface Door {
  /** `VirtioNet.open`, `VirtioNet#send`, `get VirtioNet#mac`. */
  readonly label: string;
  readonly kind: "call" | "construct" | "get" | "set";
  readonly parameters: readonly Parameter[];
  /** Does it. @param self the object; undefined for functions, statics and constructors */
  use(self: unknown, values: unknown[]): unknown;
}

type Callable = (...values: unknown[]) => unknown;

/**
 * Doors that a random call must not go through.
 * The machine's own tree: a random address could be a real function's. A number of a descriptor that is somebody else's: closing it closes theirs.
 */
const SHUT: Record<string, string> = {
  exchangePolled: "goes on for as many frames as it is told",
  exchangeByInterrupt: "goes on for as many frames as it is told",
  openKernelDevice: "opens this machine's functions",
  "OwnedFd#release": "gives the descriptor away: a leak by intention",
};

/** Modules behind the exports of `deno.json`, but for the command line, whose door is a process. */
export async function publicModules(): Promise<Record<string, unknown>[]> {
  const modules: Record<string, unknown>[] = [];
  for (const [door, path] of Object.entries(configuration.exports)) {
    if (door !== "./cli") modules.push(await import(new URL(path, ROOT).href));
  }
  return modules;
}

/** Doors that need no object: functions, constructors, static methods. */
export function freeDoors(modules: readonly Record<string, unknown>[]): Door[] {
  const doors: Door[] = [];
  const seen = new Set<unknown>();
  for (const module of modules) {
    for (const [name, value] of Object.entries(module)) {
      if (typeof value !== "function" || seen.has(value) || name in SHUT) continue;
      seen.add(value);
      if (value.prototype instanceof Error) continue;
      if (!isClass(value)) {
        doors.push(call(name, value as Callable, () => undefined));
        continue;
      }
      const constructor = value as unknown as new (...values: unknown[]) => unknown;
      const parameters = parametersOf(constructorSource(value));
      doors.push({
        label: `new ${name}`,
        kind: "construct",
        parameters,
        use: (_self, values) => Reflect.construct(constructor, values),
      });
      for (const member of Object.getOwnPropertyNames(value)) {
        const method = Object.getOwnPropertyDescriptor(value, member)!.value;
        if (typeof method !== "function" || member === "prototype") continue;
        doors.push(call(`${name}.${member}`, method, () => value, memberSource(value, member)));
      }
    }
  }
  return doors.filter(({ label }) => !(label in SHUT) && !isHidden(label, "new "));
}

const known = new Map<object, Door[]>();

/** Doors of an object, its class's and its own. */
export function doorsOf(target: object): Door[] {
  const shape = Object.getPrototypeOf(target) as object | null;
  if (shape === null) return [];
  const name = nameOf(target);
  if (shape === Object.prototype) return ownDoors(target, name);
  // The runtime's own: streams, signals, dates.
  if (Reflect.get(globalThis, name) === target.constructor) return [];
  let doors = known.get(shape);
  if (doors === undefined) {
    doors = [];
    const names = new Set<string | symbol>();
    for (let at = shape; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at)) {
      for (const member of Reflect.ownKeys(at)) {
        if (member === "constructor" || names.has(member)) continue;
        names.add(member);
        if (isProtected(at, member)) continue;
        const source = memberSource(at.constructor, String(member));
        addMember(
          doors,
          `${name}#${String(member)}`,
          member,
          Object.getOwnPropertyDescriptor(at, member)!,
          source,
        );
      }
    }
    doors = doors.filter(({ label }) => !(label.replace(/^[gs]et /, "") in SHUT));
    known.set(shape, doors);
  }
  return doors;
}

/** Class of an object; for one without a class, that it is one. */
export function nameOf(target: object): string {
  return target.constructor?.name ?? "Object";
}

function ownDoors(target: object, name: string): Door[] {
  const doors: Door[] = [];
  for (const [member, descriptor] of Object.entries(Object.getOwnPropertyDescriptors(target))) {
    if (typeof descriptor.value === "function" && !isClass(descriptor.value)) {
      addMember(doors, `${name}#${member}`, member, descriptor);
    }
  }
  return doors;
}

function addMember(
  doors: Door[],
  label: string,
  key: string | symbol,
  what: PropertyDescriptor,
  source?: string,
): void {
  if (typeof what.value === "function") doors.push(call(label, what.value, (self) => self, source));
  const { get, set } = what;
  if (get !== undefined) {
    doors.push({
      label: `get ${label}`,
      kind: "get",
      parameters: [],
      use: (self) => Reflect.apply(get, self, []),
    });
  }
  if (set !== undefined) {
    const parameters = [{ name: String(key), fields: [] }];
    doors.push({
      label: `set ${label}`,
      kind: "set",
      parameters,
      use: (self, values) => Reflect.apply(set, self, values),
    });
  }
}

function call(
  label: string,
  method: Callable,
  target: (self: unknown) => unknown,
  source: string = Function.prototype.toString.call(method),
): Door {
  const parameters = parametersOf(source);
  return {
    label,
    kind: "call",
    parameters,
    use: (self, values) => Reflect.apply(method, target(self), values),
  };
}

function isClass(value: unknown): boolean {
  return /^class\b/.test(Function.prototype.toString.call(value));
}

/** The constructor that `new` runs: of a class without one, its parent's. */
function constructorSource(value: unknown): string {
  for (let at = value; typeof at === "function"; at = Object.getPrototypeOf(at)) {
    const source = Function.prototype.toString.call(at);
    const found = /(?:^|\*\/)\s*constructor\s*\(/m.exec(source);
    if (found !== null) return source.slice(found.index);
  }
  return "()";
}

/** A member's part of its class's source, to the class's end: the member itself may be wrapped. */
function memberSource(holder: unknown, member: string): string | undefined {
  if (typeof holder !== "function") return undefined;
  const source = Function.prototype.toString.call(holder);
  // A comment before a member stays on its line.
  const start = "(?:^|\\*/)\\s*(?:static )?(?:async )?\\*?";
  const found = new RegExp(`${start}${member.replace(/\W/g, "")}\\s*\\(`, "m").exec(source);
  if (found === null) return undefined;
  const end = source.indexOf("\n  }", found.index);
  return source.slice(found.index, end < 0 ? undefined : end);
}

/** Names in the source's list of parameters, and the fields that its body takes of each. */
function parametersOf(source: string): Parameter[] {
  const names: Parameter[] = [];
  let depth = 0;
  let text = "";
  for (let at = source.indexOf("(") + 1; at < source.length; at++) {
    const sign = source[at]!;
    if (depth === 0 && (sign === "," || sign === ")")) {
      if (text.trim() !== "") names.push(parameter(text.trim(), source));
      text = "";
      if (sign === ")") break;
      continue;
    }
    if ("([{".includes(sign)) depth++;
    if (")]}".includes(sign)) depth--;
    text += sign;
  }
  return names;
}

function parameter(text: string, source: string): Parameter {
  if (text.startsWith("{")) return { name: "", fields: namesIn(text) };
  const name = /^(?:\.\.\.)?\s*_?([\w$]+)/.exec(text)?.[1] ?? "";
  const fields = new Set<string>();
  for (const [, field] of source.matchAll(new RegExp(`\\b${name}\\??\\.(\\w+)\\b(?!\\()`, "g"))) {
    fields.add(field!);
  }
  for (const [, list] of source.matchAll(new RegExp(`const (\\{[^}=]*\\}) = ${name};`, "g"))) {
    for (const field of namesIn(list!)) fields.add(field);
  }
  return { name, fields: [...fields] };
}

function namesIn(pattern: string): string[] {
  return [...pattern.matchAll(/[{,]\s*(\w+)/g)].map(([, name]) => name!);
}

/** Members that the source marks as none of a caller's business: `protected`, and `private` constructors. */
const hidden = new Set<string>();

/** Reads the marks, which are gone when the code runs. Once, before the first walk. */
export function readMarks(path: string = ROOT.pathname): void {
  for (const folder of ["lib", "drivers", "ffi"]) marksBelow(`${path}${folder}`);
}

function marksBelow(path: string): void {
  const DIRECTORY = 4;
  for (const { name, type } of readDirectory(path)) {
    if (type === DIRECTORY) marksBelow(`${path}/${name}`);
    else if (name.endsWith(".ts")) marksIn(readText(`${path}/${name}`));
  }
}

function marksIn(source: string): void {
  let holder = "";
  for (const line of source.split("\n")) {
    holder = /^(?:export )?(?:abstract )?class (\w+)/.exec(line)?.[1] ?? holder;
    const member = /^ {2}(?:protected|private) (?:(?:abstract|override|readonly|static|async|get|set) )*(\w+)/
      .exec(line)?.[1];
    if (member !== undefined) hidden.add(member === "constructor" ? `new ${holder}` : `${holder}#${member}`);
  }
}

function isProtected(shape: object, member: string | symbol): boolean {
  for (let at: object | null = shape; at !== null; at = Object.getPrototypeOf(at)) {
    if (hidden.has(`${at.constructor?.name}#${String(member)}`)) return true;
  }
  return false;
}

function isHidden(label: string, prefix: string): boolean {
  return label.startsWith(prefix) && hidden.has(label);
}

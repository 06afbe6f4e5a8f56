/**
 * What a caller who does not check types can do: pass anything. A public class turns the errors that the language then throws into typed ones.
 *
 * @module
 */
import { UsageError } from "./mod.ts";
import { shown } from "./shown.ts";

/** Where the code of this library is: an error that was thrown elsewhere, in a callback or getter of the caller's, stays the caller's. */
const OURS = new URL("../../", import.meta.url).href;
const FRAME = /^\s+at .*?((?:file|https?):[^\s)]+)/m;

/**
 * Whether a guarded call is under way. What it calls in turn is not guarded again: an asynchronous call that goes through four guarded ones would
 * settle four turns of the microtask queue later, and administration commands came at half of their rate so.
 */
const outermost = { entered: false };

type Method = (...values: unknown[]) => unknown;

/**
 * Has a class's methods, getters, setters and static methods throw, and reject with, `UsageError` where they would throw a TypeError, RangeError or
 * SyntaxError: these come of arguments that are not of the types in the signature. Called in the class's static block. Costs some ns a call.
 * @param only members to take, of a class whose others are called for each packet. Default: all
 */
export function typedErrors(
  holder: { readonly prototype: object; readonly name: string },
  only?: readonly string[],
): void {
  guardMembers(holder.prototype, holder.name, only);
  guardMembers(holder, holder.name, only);
}

function guardMembers(target: object, name: string, only: readonly string[] | undefined): void {
  for (const key of Reflect.ownKeys(target)) {
    if (only !== undefined && !(only as readonly unknown[]).includes(key)) continue;
    const found = Object.getOwnPropertyDescriptor(target, key)!;
    if (key === "constructor" || key === "prototype" || !found.configurable) continue;
    const label = `${name}.${typeof key === "symbol" ? `[${key.description}]` : key}`;
    for (const part of ["value", "get", "set"] as const) {
      if (typeof found[part] === "function") found[part] = guardedWhenCalled(target, key, part, label);
    }
    Object.defineProperty(target, key, found);
  }
}

/** A member that gets its guard when it is first called: most members of most classes are not called by one command, and each guard is compiled. */
function guardedWhenCalled(
  target: object,
  key: string | symbol,
  part: "value" | "get" | "set",
  label: string,
): Method {
  const method = Object.getOwnPropertyDescriptor(target, key)![part] as Method;
  let guard: Method | undefined;
  function first(this: unknown, ...values: unknown[]): unknown {
    if (guard === undefined) {
      guard = guarded(method, label);
      const now = Object.getOwnPropertyDescriptor(target, key);
      if (now?.[part] === first) Object.defineProperty(target, key, { ...now, [part]: guard });
    }
    return guard.apply(this, values);
  }
  return Object.defineProperties(first, Object.getOwnPropertyDescriptors(method)) as Method;
}

/** So many parameters a method has at most, but for one that takes any number. */
const PARAMETERS = "a, b, c, d, e, f, g, h";
const TAKES_ANY_NUMBER = /^[^(]*\([^)]*\.\.\./;

/**
 * The text is compiled anew for each method, so that the call in it has one target only: V8 then inlines it. A register is written in 6 ns instead of 2 so,
 * and in 15 to 26 through a closure that all methods share. Parameters have names, for an array of them would be made at each call: that was 260 bytes a
 * frame from driver to driver.
 */
function guarded(method: Method, label: string): Method {
  const any = TAKES_ANY_NUMBER.test(String(method));
  const [parameters, values] = any
    ? ["...values", "values"]
    : [PARAMETERS, `[${PARAMETERS}].slice(0, arguments.length)`];
  const call = new Function(
    "method",
    "label",
    "typedError",
    "whenSettled",
    "outermost",
    `"use strict";
    return function (${parameters}) {
      if (outermost.entered) return method.call(this, ${parameters});
      outermost.entered = true;
      try {
        const result = method.call(this, ${parameters});
        return result instanceof Promise ? whenSettled(result, label, ${values}) : result;
      } catch (error) {
        throw typedError(error, label, ${values});
      } finally {
        outermost.entered = false;
      }
    }`,
  )(method, label, typedError, whenSettled, outermost);
  return Object.defineProperties(call, Object.getOwnPropertyDescriptors(method)) as Method;
}

function whenSettled(result: Promise<unknown>, label: string, values: readonly unknown[]): Promise<unknown> {
  return result.catch((error) => {
    throw typedError(error, label, values);
  });
}

/**
 * A call of a function that stands alone, and takes what has fields in fields: its errors as those of a class with `typedErrors`.
 * @throws UsageError, what `action` throws
 */
export function typedCall<T>(label: string, values: readonly unknown[], action: () => T): T {
  try {
    return action();
  } catch (error) {
    throw typedError(error, label, values);
  }
}

/** A `UsageError` for an error of the language that code of this library threw, and the first of two errors that it threw; any other as it is. */
export function typedError(error: unknown, label: string, values: readonly unknown[]): unknown {
  const ofTheLanguage = error instanceof TypeError || error instanceof RangeError ||
    error instanceof SyntaxError || error instanceof SuppressedError;
  if (!ofTheLanguage) return error;
  const frame = FRAME.exec(error.stack ?? "")?.[1];
  if (
    frame !== undefined &&
    !(frame.startsWith(OURS) && /^(?:lib|drivers|ffi)\//.test(frame.slice(OURS.length)))
  ) {
    return error;
  }
  // What is let go on the way out may fail in turn: what went wrong first is what the caller has to know.
  if (error instanceof SuppressedError) return typedError(error.suppressed, label, values);
  return new UsageError(`${label}(${values.map(shown).join(", ")}): ${error.message}`, {
    hint: "look at the types of the arguments; if they are right, `cause` says where this library is wrong",
    cause: error,
  });
}

/** As `instanceof`, where each frame must not cost a guard: a proxy that was revoked is of no class. */
export function isInstance<T>(value: unknown, of: new (...values: never[]) => T): value is T {
  try {
    return value instanceof of;
  } catch {
    return false;
  }
}

/** What `requireType` knows. `object`: with the members that are named. */
export type ArgumentType =
  | "number"
  | "bigint"
  | "string"
  | "boolean"
  | "function"
  | "bytes"
  | "array"
  | "object";

/**
 * Says which argument is none of what it must be.
 * @param what function and argument, for the message: `encodeParts: parts`
 * @param members for an object: what it must have
 * @throws UsageError
 */
export function requireType(value: unknown, type: ArgumentType, what: string, ...members: string[]): void {
  if (isOfType(value, type, members)) return;
  const wanted = members.length === 0 ? "" : ` with ${members.join(", ")}`;
  throw new UsageError(`${what}: ${shown(value)} is not of type ${type}${wanted}`);
}

/** Whether it is one, and can be looked at: an array that is not detached, a proxy that is not revoked. */
export function isOfType(value: unknown, type: ArgumentType, members: readonly string[] = []): boolean {
  try {
    // A detached array, and one whose buffer was shrunk away, cannot even be read as empty.
    if (type === "bytes") {
      return value instanceof Uint8Array && (value.length > 0 || value.values() !== undefined);
    }
    if (type === "array") return Array.isArray(value);
    const found = typeof value;
    if (found !== type || value === null) return false;
    if (type !== "object") return true;
    const one = value as Record<string, unknown>;
    Reflect.getPrototypeOf(one);
    return members.every((member) => one[member] !== undefined);
  } catch (error) {
    // What a getter of the caller's throws is the caller's; a proxy that was revoked is of no type.
    if (typedError(error, "", []) === error) throw error;
    return false;
  }
}

/**
 * An object before another one.
 *
 * @module
 */

/** An object with some members of its own, and all others those of another: also its class's private parts, which a subclass could not reach. */
export function instead<T extends object>(target: T, own: Partial<T>): T {
  return new Proxy(target, {
    get(_, key) {
      if (Object.hasOwn(own, key)) return Reflect.get(own, key, own);
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
}

/**
 * Lets Optique load without the segmenter of text that it makes at once: making the first object of `Intl` reads what V8 knows of all languages, which
 * takes longer than the parser needs for a command line. It is made when help is laid out.
 *
 * @module
 */
const { Segmenter } = Intl;

class LaterSegmenter {
  readonly #options: ConstructorParameters<typeof Segmenter>;
  #made: Intl.Segmenter | undefined;

  constructor(...options: ConstructorParameters<typeof Segmenter>) {
    this.#options = options;
  }

  segment(text: string): Intl.Segments {
    return (this.#made ??= new Segmenter(...this.#options)).segment(text);
  }
}

// For whoever is loaded between this and the next line of whoever imports it.
Reflect.set(Intl, "Segmenter", LaterSegmenter);

/** Makes all as it was, once Optique is loaded. */
export function segmentersAtOnce(): void {
  Reflect.set(Intl, "Segmenter", Segmenter);
}

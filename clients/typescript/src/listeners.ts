/** Functions that are called with the events of a type. */
export class Listeners<Events> {
  readonly #listeners = new Map<keyof Events, Set<(event: never) => void>>();

  /** Adds a listener; returns what removes it. */
  add<Type extends keyof Events>(type: Type, listener: (event: Events[Type]) => void): () => void {
    const set = this.#listeners.get(type) ?? new Set();
    this.#listeners.set(type, set.add(listener));
    return () => set.delete(listener);
  }

  has(type: keyof Events): boolean {
    return (this.#listeners.get(type)?.size ?? 0) > 0;
  }

  /** Calls the listeners. What one throws is reported as uncaught, and keeps nothing from the others. */
  emit<Type extends keyof Events>(type: Type, event: Events[Type]): void {
    const set = this.#listeners.get(type) as Set<(event: Events[Type]) => void> | undefined;
    for (const listener of set ?? []) {
      try {
        listener(event);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}

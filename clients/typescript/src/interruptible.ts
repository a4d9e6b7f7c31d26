/**
 * A generator whose `return` first interrupts what its `next` waits for. Otherwise `return` takes effect only after
 * that wait, which may take for ever, and not at all where `next` was never called.
 */
export function interruptible<T>(
  generator: AsyncGenerator<T, void, undefined>,
  interrupt: () => void,
): AsyncGenerator<T, void, undefined> {
  const end = generator.return.bind(generator);
  generator.return = (value) => {
    interrupt();
    return end(value);
  };
  return generator;
}

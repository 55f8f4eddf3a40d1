// Asks for one drawing at a time: never two requests in flight, and what came last is asked next.

export class Asker {
  #next = null;
  #isAsking = false;

  /**
   * @param {(what: object) => Promise<object>} ask
   * @param {(answer: object, what: object) => void} onAnswer
   * @param {(error: Error, what: object) => void} onError
   */
  constructor(ask, onAnswer, onError) {
    Object.assign(this, { ask, onAnswer, onError });
  }

  request(what) {
    this.#next = what;
    if (!this.#isAsking) this.#work();
  }

  /** Forgets what waits; an answer that is on its way is still handed over, with the drawing that it is for. */
  cancel() {
    this.#next = null;
  }

  async #work() {
    this.#isAsking = true;
    while (this.#next) {
      const what = this.#next;
      this.#next = null;
      try {
        this.onAnswer(await this.ask(what), what);
      } catch (error) {
        this.onError(error, what);
      }
    }
    this.#isAsking = false;
  }
}

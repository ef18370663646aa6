/** The last figures of one kind, in an array that never grows. */

export class History {
  /** @param {number} capacity */
  constructor(capacity) {
    this.values = new Float64Array(capacity);
    this.clear();
  }

  clear() {
    this.length = 0;
    this.next = 0;
  }

  /** @param {number} value */
  push(value) {
    this.values[this.next] = value;
    this.next = (this.next + 1) % this.values.length;
    this.length = Math.min(this.length + 1, this.values.length);
  }

  /** @param {number} index from the oldest at 0 @returns {number} */
  at(index) {
    const capacity = this.values.length;
    return this.values[(this.next - this.length + index + capacity) % capacity];
  }
}

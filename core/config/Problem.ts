/** What is wrong with a configured object, said so that its author can put it right. */
import { Schema } from "effect"

/** Names one object of a manifest. */
export const Reference = Schema.Struct({ kind: Schema.String, namespace: Schema.String, name: Schema.String })
export type Reference = typeof Reference.Type

/** One mistake. */
export const Problem = Schema.Struct({
  object: Reference,
  /** The field, for example `spec.destination-port-nats[0].port`. */
  path: Schema.String,
  /** What stands there, as JSON; absent when nothing does. */
  value: Schema.optionalKey(Schema.String),
  /** What is expected instead or what to do, for example `expected tcp, udp or sctp`. */
  remedy: Schema.String
})
export type Problem = typeof Problem.Type

/** Makes a problem; a value of undefined means that the field is missing. */
export const make = (object: Reference, path: string, value: unknown, remedy: string): Problem => {
  const { kind, name, namespace } = object
  const text = value === undefined ? undefined : JSON.stringify(value)
  return { object: { kind, namespace, name }, path, ...(text === undefined ? {} : { value: abridge(text) }), remedy }
}

/** One line for people: `Flow default/flow-1: spec.priority is -1: expected an integer of at least 0`. */
export const format = ({ object, path, remedy, value }: Problem): string =>
  `${object.kind} ${object.namespace}/${object.name}: ${path} is ${value ?? "missing"}: ${remedy}`

const longest = 200

const abridge = (json: string): string => (json.length > longest ? `${json.slice(0, longest)}...` : json)

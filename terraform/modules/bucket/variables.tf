variable "name" {
  description = "Name of the bucket."
  type        = string
}

variable "kms_key_arn" {
  description = "The key that encrypts it; null for S3's own, which log delivery needs."
  type        = string
  default     = null
}

variable "access_log" {
  description = "The bucket that accesses are logged to; null for none."
  type        = object({ bucket = string })
  default     = null
}

variable "force_destroy" {
  description = "Whether the bucket is emptied when it is destroyed."
  type        = bool
}

variable "object_lock" {
  description = "Default retention of objects; null for none."
  type = object({
    mode = string
    days = number
  })
  default = null
}

variable "noncurrent_days" {
  description = "How long replaced and deleted objects can be brought back."
  type        = number
}

variable "lifecycle_rules" {
  description = "By name: prefix, days after which objects move to infrequent access (null: never), days after which they expire (null: never), days for which replaced and deleted ones can be brought back (null: noncurrent_days)."
  type = map(object({
    prefix          = string
    infrequent_days = optional(number)
    expire_days     = optional(number)
    noncurrent_days = optional(number)
  }))
  default = {}
}

variable "policy_statements" {
  description = "JSON of a policy whose statements the bucket's policy has as well."
  type        = list(string)
  default     = []
}

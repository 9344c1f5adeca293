variable "prefix" {
  description = "What names start with."
  type        = string
}

variable "name_suffix" {
  description = "What buckets' names end with, to be unique in the world."
  type        = string
}

variable "kms_key_arn" {
  description = "The key of data at rest."
  type        = string
}

variable "protect_data" {
  description = "Whether terraform destroy stops at data."
  type        = bool
}

variable "retention_days" {
  description = "How long each class of data is kept, in days."
  type = object({
    market_data = number
    predictions = number
    logs        = number
    audit       = number
    noncurrent  = number
  })
}

variable "audit_lock_mode" {
  description = "GOVERNANCE or COMPLIANCE."
  type        = string
}

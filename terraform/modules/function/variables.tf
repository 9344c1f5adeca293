variable "name" {
  description = "The function's name."
  type        = string
}

variable "description" {
  description = "What it does."
  type        = string
}

variable "region" {
  description = "The region."
  type        = string
}

variable "account_id" {
  description = "The account."
  type        = string
}

variable "partition" {
  description = "The partition of ARNs."
  type        = string
}

variable "artifact" {
  description = "Path of bootstrap.zip."
  type        = string
}

variable "architecture" {
  description = "arm64 or x86_64."
  type        = string
}

variable "memory_mb" {
  description = "Memory in MB; 1769 have one vCPU."
  type        = number

  validation {
    condition     = var.memory_mb >= 128 && var.memory_mb <= 10240
    error_message = "memory_mb must be 128 to 10240."
  }
}

variable "timeout_secs" {
  description = "How long a call may take."
  type        = number

  validation {
    condition     = var.timeout_secs >= 1 && var.timeout_secs <= 900
    error_message = "timeout_secs must be 1 to 900."
  }
}

variable "reserved_concurrency" {
  description = "How many may run at a time, of the account's; -1 for no reservation."
  type        = number

  validation {
    condition     = var.reserved_concurrency >= -1
    error_message = "reserved_concurrency must be -1 or more."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
}

variable "environment" {
  description = "Environment variables; empty ones are left out."
  type        = map(string)
}

variable "queue" {
  description = "Where its events come from and how many it takes at a time; null for a function that is only called."
  type = object({
    arn        = string
    batch_size = number
  })
  default = null
}

variable "access" {
  description = "What it may do: prefixes of the bucket that it reads, writes and lists; the table (read or write); publish events; sign; run jobs; invoke predict_native."
  type = object({
    read    = optional(list(string), [])
    write   = optional(list(string), [])
    list    = optional(list(string), [])
    table   = string
    publish = optional(bool, false)
    sign    = optional(bool, false)
    jobs    = optional(bool, false)
    invoke  = optional(bool, false)
  })

  validation {
    condition     = contains(["read", "write"], var.access.table)
    error_message = "access.table must be read or write."
  }
}

variable "resources" {
  description = "ARNs of what access is about."
  type = object({
    bucket_arn          = string
    table_arn           = string
    bus_arn             = string
    data_key_arn        = string
    signing_key_arn     = string
    native_function_arn = string
    job_queue_arns      = list(string)
    job_definition_arns = list(string)
    job_log_group_arn   = string
  })
}

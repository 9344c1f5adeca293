variable "prefix" {
  description = "What names start with; the functions find queues and definitions by it (MOOLA_JOB_PREFIX)."
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

variable "subnet_ids" {
  description = "Where instances run."
  type        = list(string)
}

variable "security_group_ids" {
  description = "Their security groups."
  type        = list(string)
}

variable "bucket_arn" {
  description = "The bucket of datasets and runs."
  type        = string
}

variable "kms_key_arn" {
  description = "The key of data at rest."
  type        = string
}

variable "log_retention_days" {
  description = "How long the trainer's logs are kept."
  type        = number
}

variable "log_level" {
  description = "What the trainer logs."
  type        = string
}

variable "protect_data" {
  description = "Whether the repository stays as long as it holds images."
  type        = bool
}

variable "trainer" {
  description = "Images, instances and what a job gets; see the root's variable."
  type = object({
    image_tag          = string
    cpu_instance_types = list(string)
    cpu_spot           = bool
    cpu_max_vcpus      = number
    cpu_job_vcpus      = number
    cpu_job_memory_mb  = number
    gpu_instance_types = list(string)
    gpu_max_vcpus      = number
    gpu_job_vcpus      = number
    gpu_job_memory_mb  = number
    spot_bid_percent   = number
    timeout_secs       = number
  })
}

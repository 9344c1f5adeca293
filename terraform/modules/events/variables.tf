variable "prefix" {
  description = "What names start with."
  type        = string
}

variable "archive_retention_days" {
  description = "How long events can be replayed."
  type        = number
}

variable "job_queue_arns" {
  description = "The job queues whose state changes matter."
  type        = list(string)
}

variable "drift_schedule" {
  description = "When drift is looked for; null for never."
  type        = string
}

variable "drift_schedules" {
  description = "When drift of single models is looked for, by model."
  type        = map(string)
}

variable "retrain_schedules" {
  description = "When models are retrained, by model."
  type        = map(string)
}

variable "timeout_secs" {
  description = "Timeout of each function that takes events."
  type        = map(number)
}

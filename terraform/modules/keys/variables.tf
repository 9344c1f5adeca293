variable "prefix" {
  description = "What names start with."
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

variable "deletion_window_days" {
  description = "How long a deleted key can still be brought back, 7 to 30 days."
  type        = number

  validation {
    condition     = var.deletion_window_days >= 7 && var.deletion_window_days <= 30
    error_message = "deletion_window_days must be 7 to 30."
  }
}

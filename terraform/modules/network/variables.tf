variable "prefix" {
  description = "What names start with."
  type        = string
}

variable "region" {
  description = "The region."
  type        = string
}

variable "vpc_cidr" {
  description = "Addresses of the VPC that is made."
  type        = string
}

variable "existing" {
  description = "Subnets that exist; null makes a VPC."
  type = object({
    vpc_id     = string
    subnet_ids = list(string)
  })
  default = null
}
